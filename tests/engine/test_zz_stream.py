import json
from pathlib import Path
import pytest, soundfile, numpy as np
from tests import tiny_heard, tiny
from tests.engine.conftest import *
from tests.engine.test_resume import resume, same_weights, start
from hftransfer.fitting.interruption import Interrupted
from hftransfer.runs import Run
from hftransfer.predictor import Predictor

def tree(folder, task, rows, **more):
    model = folder/"model"
    if task.startswith("automatic"): tiny_heard.whisper(model)
    else: tiny_heard.heard_model(model)
    return {"task": task, "model": str(model), "data": {"source": str(rows), "streaming": True, "test_size": 8, "validation_size": 8}, "train": {"learning_rate":1e-3, "per_device_train_batch_size": 8}, **more}

def test_asr(tmp_path, train):
    rows=tiny_heard.spoken_folder(tmp_path/"rows", 60)
    run, result = train(tree(tmp_path, "automatic-speech-recognition", rows, evaluation={"max_new_tokens": 4}))
    print(result["data"]["warnings"], result["data"]["splits"], [e for e in run.events()[0] if e["type"] in("evaluation","phase","progress")][:30])
    print(Predictor(run.artifact)(str(rows/"000.flac")))

@pytest.mark.parametrize("workers",[0,1])
def test_resume(tmp_path, workers):
    rows=tiny_heard.class_folder(tmp_path/"rows", 60)
    t=tree(tmp_path,"audio-classification",rows)
    t["train"]["dataloader_num_workers"]=workers
    t["data"]["augmentation"]=True if False else {"gain": 6.0}
    whole=start(t,tmp_path/"whole")
    with pytest.raises(Interrupted) as stop:
        start(t,tmp_path/"stopped",steps=8)
    print("stopped", stop.value.step)
    st=Run(tmp_path/"stopped")
    resume(st); same_weights(whole,st)
