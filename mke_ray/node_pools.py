"""Pools of nodes: the label of a node that says which stages it is for."""

POOL_LABEL = "pool"


def selector_of(*pools: str | None) -> dict[str, str]:
    """Return the label selector of Ray for nodes of any of some pools; None takes any node."""
    named = [one for one in dict.fromkeys(pools) if one is not None]
    if not named or None in pools:
        return {}
    return {POOL_LABEL: named[0] if len(named) == 1 else f"in({', '.join(named)})"}
