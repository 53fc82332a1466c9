"""What several parts of a card ask of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hftransfer import artifact, catalog
from hftransfer.card.choices import adapted_by
from hftransfer.config import RunConfig
from hftransfer.errors import brief


class About:
    """What several parts of a card ask of a run."""

    def __init__(self, result: Mapping[str, Any], config: RunConfig, repo: str | None, license: str | None) -> None:
        from hftransfer import answers

        sources = result.get("sources") or {}
        public = artifact.public_config(config)
        self.result, self.config, self.repo, self.chosen_licence = result, config, repo, license
        self.model_source: Mapping[str, Any] = sources.get("model") or {}
        self.data_source: Mapping[str, Any] = sources.get("data") or {}
        self.model: str = self.model_source.get("name") or public.model
        self.data: str = self.data_source.get("name") or public.data.source
        self.task = catalog.task(config.task)
        self.place = repo or "path/or/repo"
        self.metrics: Mapping[str, Any] = result["test"]["metrics"]
        self.answer = answers.of_result(result)
        self.main = self.answer.main_metric
        self.method = adapted_by(result, config.method.name)
        self.is_peft = catalog.methods()[self.method] == catalog.PEFT
        self.warnings = [brief(str(warning)) for warning in result["data"]["warnings"]]
        # as the files said whose rows are, where the configuration named no column
        self.group: str | None = config.data.group or result["data"].get("group") or None
        self.plots = [name for name in result.get("artifact_plots") or () if re.fullmatch(r"[\w/-]+\.png", name, re.A)]

    @property
    def licence(self) -> str | None:
        """The licence that the card declares."""
        found = self.chosen_licence or self.model_source.get("license")
        return None if not found or found == "unknown" else str(found)

    @property
    def languages(self) -> list[str]:
        """The languages of the data, else of the model, as the Hub writes them."""
        found = self.data_source.get("languages") or self.model_source.get("languages") or ()
        known = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code"
        return [language for language in found if re.fullmatch(known, str(language), re.A)]


def hub_page(repo: str) -> str:
    """Return the address of a model's page."""
    return f"https://huggingface.co/{repo}"


def is_hub(source: Mapping[str, Any]) -> bool:
    """Tell whether a source is known to be a repository of the Hub, by a name that can be one."""
    return source.get("kind") == "hub" and is_repo_id(str(source.get("name")))


def is_repo_id(name: str) -> bool:
    """Tell whether a name has the form of a Hub id."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.isascii()
