"""Serves the app: the `app_file` of a Space, or on this machine: python spaces_app.py"""

from hftransfer.ui import app
from hftransfer.ui.settings import Settings

if __name__ == "__main__":
    settings = Settings.read()
    app.launch(settings, host="0.0.0.0" if settings.space else "127.0.0.1")
