"""What the builder found out about one version of a package. The plan travels with the index of the archive."""

from typing import Any, NamedTuple


class Plan(NamedTuple):
    """Which modules of a package are held, and what the modules that run must know about them.

    Attributes:
        root: `torch` or `numpy`.
        held: names of the held modules, in the order in which the stock package begins to run them.
        deferred_names: module -> name in it -> where its value comes from: a held module (or one that defers the name
            itself), and the attribute there.
        deferred_statements: module that runs -> names in it that are bound by statements which wait.
        eager_code: Python text that runs when `import torch` ends: statements of held modules that inference needs, and
            copies of functions that do not need their modules.
        copied_functions: the functions that are copied there, each as module and name.
        factories: operators `aten::name.overload` that make a meta tensor out of no tensor.
        meta_operators: operators whose native kernels serve meta tensors as well as those of held modules do.
        namespaces: operator namespaces in which held modules define operators.
        native: modules written in C of which any use is a touch: those that held modules of torch make inside `torch._C`,
            and the one of NumPy that torch has used before.
        rebound: held modules whose package has something else under their name, or nothing, when it has run
            (`torch.nn.utils.weight_norm` is a function). To look such a name up is a touch.
        submodules: package that runs -> names of its submodules that are held, or that only held modules import. Stock has them
            as attributes.
        at_fork: modules of Python's own library that held modules import, and that register handlers for forks.
        constants: held module -> names in it and their values, which can be read without a touch.
        separable: held modules that run by themselves when something touches them, while the others go on waiting.
        registrations: static initialisers of a library that wait: `library`, a path in the layer; `symbol`, a function that it
            exports; `symbol_address` and `addresses`, those of this function and of the initialisers. Empty if none waits.
    """

    root: str
    held: tuple[str, ...] = ()
    deferred_names: dict[str, dict[str, tuple[str, str]]] = {}  # noqa: RUF012 -- nothing writes to a plan
    deferred_statements: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    eager_code: str = ""
    copied_functions: tuple[tuple[str, str], ...] = ()
    factories: tuple[str, ...] = ()
    meta_operators: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    native: tuple[str, ...] = ()
    rebound: tuple[str, ...] = ()
    submodules: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    at_fork: tuple[str, ...] = ()
    constants: dict[str, dict[str, str]] = {}  # noqa: RUF012
    separable: tuple[str, ...] = ()
    registrations: dict[str, Any] = {}  # noqa: RUF012
