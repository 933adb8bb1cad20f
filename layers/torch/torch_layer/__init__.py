"""The layer's run-time half: finds its Python modules (`finder`) and brings its libraries' cold pages back (`pager`).

Nothing here is for user code to call, but `torch_layer.pager.stats()`. See the layer's DESIGN.md in the lambda-torch project.
"""
