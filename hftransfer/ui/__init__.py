"""The app: gradio over the engine's process boundary; nothing here imports torch, transformers or datasets."""
