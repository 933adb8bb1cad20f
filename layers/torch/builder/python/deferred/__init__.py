"""Which modules of torch and of NumPy wait until they are touched, and what those that run at once must be changed for that.

`rules` is what has to be known about torch; `rewrite` changes a module's source tree; `plan` makes of a list of held modules what
the layer needs at run time (`torch_layer.lazy`); `search` finds that list; `trial` is what it runs, in processes of their own.
"""
