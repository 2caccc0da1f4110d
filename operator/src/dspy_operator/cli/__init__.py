"""`kubectl dspy`: what people see of a rollout and how they steer it.

Commands are thin; `views` turns objects into what is shown (pure), `render` draws it.
"""
