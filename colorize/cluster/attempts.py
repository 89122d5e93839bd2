"""Whether Ray has started the present work before: then something about it may have ended its process.

Ray is imported where it is asked, since the child process of a stage, which imports the stage, needs none.
"""

from __future__ import annotations

RETRIES = 10  # of a task whose worker died; an image that kills it is blamed in the first


def task_retries() -> dict[str, int]:
    """How often Ray may start a task of images again: an argument `ray_remote_args_fn` of Ray Data's stages."""
    return {"max_retries": RETRIES}


def task_attempt() -> int:
    """How often Ray has started the present task before; 0 outside of tasks."""
    from ray._private.worker import global_worker  # not public: Ray tells tasks of their attempts nowhere else

    core = getattr(global_worker, "core_worker", None)
    return int(core.get_current_task_attempt_number()) if core is not None else 0


def actor_was_restarted() -> bool:
    """Whether the actor that this runs in died before; False outside of actors."""
    import ray

    context = ray.get_runtime_context() if ray.is_initialized() else None
    return context is not None and context.get_actor_id() is not None and context.was_current_actor_reconstructed
