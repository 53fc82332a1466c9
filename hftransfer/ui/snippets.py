"""The lines with which programs ask a model: from Python, JavaScript and a shell."""

from __future__ import annotations

import json

from hftransfer import catalog
from hftransfer.runs import Run
from hftransfer.ui import markup

HERE = "http://127.0.0.1:7860"  # where the app listens unless told otherwise


def of(run: Run) -> dict[str, str]:
    """Return lines by language: of a model in its folder, and of this app, whose endpoint answers other programs."""
    task = catalog.task(run.config().task)
    example = next((role.takes.example for role in task.shown if role.takes is not None and role.required), '"..."')
    value = json.dumps("a text, or a picture as data:image/png;base64,...")
    return {
        "Python": (
            "from hftransfer.predictor import Predictor\n\n"
            f"model = Predictor({str(run.artifact)!r})\nprint(model.answer([{example}]))"
        ),
        "JavaScript": (
            '// npm install @gradio/client, while the app runs\nimport { Client } from "@gradio/client";\n\n'
            f'const app = await Client.connect("{HERE}");\n'
            f'const found = await app.predict("/predict", {{ where: "{run.name}", inputs: [{value}] }});\n'
            "console.log(found.data[0]);"
        ),
        "curl": (
            f"id=$(curl -s {HERE}/gradio_api/call/predict -H 'Content-Type: application/json' \\\n"
            f"  -d '{json.dumps({'data': [run.name, ['a text'], 5]})}' | cut -d'\"' -f4)\n"
            f"curl -s {HERE}/gradio_api/call/predict/$id"
        ),
    }


def shown(run: Run) -> str:
    """Return the lines as HTML."""
    return "".join(
        f'<h4>{markup.text(name)}</h4><pre class="log" tabindex="0" aria-label="{markup.text(name)}">'
        f"{markup.text(lines, 4000)}</pre>"
        for name, lines in of(run).items()
    )
