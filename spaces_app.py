"""Serves the app: the `app_file` of a Space, or on this machine: python spaces_app.py"""

import sys

from hftransfer.errors import UserError
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import forget_owner

if __name__ == "__main__":
    settings = Settings.read()
    forget_owner(settings)  # before huggingface_hub is imported, which reads the environment once
    from hftransfer.ui import app

    try:
        app.launch(settings, host="0.0.0.0" if settings.space else "127.0.0.1")
    except UserError as error:
        sys.exit(str(error))
