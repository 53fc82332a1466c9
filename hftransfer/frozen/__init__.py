"""What frozen features give: a probe, neighbours, choice of a model, a learning curve, zero-shot answers."""
