"""Whether Ray has started the present work before: then something about it may have ended its process.

Ray is imported where it is asked, since the child process of a stage, which imports the stage, needs none.
"""

from __future__ import annotations


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
