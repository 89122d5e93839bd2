"""Whether the current task or actor has been restarted, perhaps because an image crashed its process.

Ray is imported lazily: the child processes of a stage import this module, but do not need Ray.
"""

from __future__ import annotations

RETRIES = 10  # of a task whose worker died; an image that kills it is found in the first


def task_retries() -> dict[str, int]:
    """For `ray_remote_args_fn`: how often Ray may retry a task."""
    return {"max_retries": RETRIES}


def task_attempt() -> int:
    """Number of earlier attempts at the current task; 0 outside of tasks."""
    from ray._private.worker import global_worker  # Ray has no public API for this

    core = getattr(global_worker, "core_worker", None)
    return int(core.get_current_task_attempt_number()) if core is not None else 0


def actor_was_restarted() -> bool:
    """Whether the current actor was restarted; False outside of actors."""
    import ray

    context = ray.get_runtime_context() if ray.is_initialized() else None
    return context is not None and context.get_actor_id() is not None and context.was_current_actor_reconstructed
