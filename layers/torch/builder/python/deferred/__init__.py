"""Which modules of torch and of NumPy wait until they are touched, and what those that run at once must be changed for that.

- `rules`: what has to be known about torch, as tables.
- `planning`: makes of a list of held modules the plan that the layer needs at run time (`torch_layer.plan`).
- `defer`, with `candidates`, `statements`, `scopes` and `module_text`: changes a module's source tree.
- `search`: finds the list of held modules; `trial` is what it runs, in processes of their own.
"""
