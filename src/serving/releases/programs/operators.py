"""Which operators a program may call: a table, each group with the reason why it is harmless.

An operator is let through because it is listed; there is no list of bad ones. What is listed computes new tensors,
views and plain values from its arguments, checks its arguments itself, and does nothing else. A name stands for all of
its overloads, and with `_` behind it for its form in place.

Not listed, on purpose:

    save, from_file, load_tensor read or write files
    as_strided, _reshape_alias, set_, resize_, _reinterpret_tensor, _alloc_from_pool
                                     make views that can leave their storage
    _unsafe_index, _unsafe_masked_index, _embedding_bag, segment_reduce, max_unpool2d, grid_sampler_2d
                                     leave checks of indices or modes to their callers
    _fft_r2c, _fft_c2r, _fft_c2c, native_batch_norm, _native_batch_norm_legit, _weight_norm, _autocast_to_full_precision,
    _autocast_to_reduced_precision
                                     end the process for arguments that their callers never pass
    empty, empty_like, empty_strided, new_empty
                                     show what the process had in that memory before
    rand, randn, bernoulli, multinomial, normal, manual_seed
                                     share one generator with all the process: golden examples could not hold
    the overloads named out write into tensors that they were given, and change their size
    center, ljust, rjust, zfill      make texts of any length out of a number
    data_ptr, storage show addresses
    fork, wait, rpc, PythonOp run beside or outside of the program
    print would put requests into the log
    quantized, mkldnn, xnnpack, nnapi
                                     other namespaces, whose packed objects run code while they are read
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Said where a program calls an operator of these namespaces. People meet them by quantising a network.
WHY_NOT: Final[Mapping[str, str]] = {
    "quantized": "its weights are packed for one engine (x86, fbgemm, qnnpack), and other processors have other engines. "
    "Next: publish the weights as they were before, as safetensors, and quantise the network in Model.load",
}


@dataclass(frozen=True)
class OperatorGroup:
    """Operators of one kind, and why they are let through."""

    reason: str
    names: frozenset[str]


def _group(reason: str, names: str) -> OperatorGroup:
    return OperatorGroup(reason, frozenset(names.split()))


ATEN: Final[Mapping[str, OperatorGroup]] = {
    "element by element": _group(
        "one element out for one element in; shapes are broadcast and checked",
        """abs acos acosh add addcdiv addcmul angle asin asinh atan atan2 atanh bitwise_and bitwise_left_shift
        bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip conj copysign cos
        cosh deg2rad digamma div divide erf erfc erfinv exp exp2 expm1 fix floor floor_divide fmax fmin fmod frac
        heaviside hypot imag lerp lgamma log log10 log1p log2 logaddexp logaddexp2 logit maximum minimum mul multiply
        nan_to_num neg negative positive pow rad2deg real reciprocal remainder round rsqrt rsub sgn sigmoid sign sin
        sinc sinh special_expit special_erf special_gammaln special_log_softmax special_log1p special_softmax
        special_xlogy sqrt square sub subtract tan tanh true_divide trunc xlogy""",
    ),
    "comparisons and logic": _group(
        "one truth value out for one element in",
        """all allclose any eq equal ge greater greater_equal gt is_nonzero isclose isfinite isinf isnan isneginf
        isposinf le less less_equal logical_and logical_not logical_or logical_xor lt ne not_equal where""",
    ),
    "activations": _group(
        "one element out for one element in, or over one dimension",
        """celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax _log_softmax
        mish prelu _prelu_kernel relu relu6 rrelu selu silu softmax _softmax softplus softshrink threshold""",
    ),
    "dropout": _group(
        "the identity in a model that serves; torch.export keeps it in the graph",
        "alpha_dropout dropout feature_alpha_dropout feature_dropout native_dropout",
    ),
    "reductions": _group(
        "fewer elements out than in; dimensions are checked",
        """amax amin aminmax argmax argmin argsort bincount count_nonzero cummax cummin cumprod cumsum diff logcumsumexp
        logsumexp max mean median min mode msort nanmean nanmedian nansum norm frobenius_norm linalg_norm
        linalg_vector_norm prod quantile nanquantile sort std std_mean sum topk kthvalue trace var var_mean
        unique_consecutive unique_dim _unique2""",
    ),
    "products": _group(
        "matrix products; sizes are checked against each other",
        """addbmm addmm addmv addr baddbmm bilinear bmm chain_matmul cdist _cdist_forward cosine_similarity cross
        linalg_cross dot einsum inner kron linalg_matmul linalg_multi_dot linear matmul mm mv outer ger
        pairwise_distance pdist tensordot vdot""",
    ),
    "convolutions": _group(
        "sizes, strides and groups are checked against each other",
        """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution _convolution_mode
        convolution col2im im2col pad _pad_enum constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d _pad_circular pixel_shuffle pixel_unshuffle
        channel_shuffle unfold""",
    ),
    "pooling and resampling": _group(
        "output sizes are computed and checked",
        """adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d
        max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices upsample_nearest1d
        upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
        _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa""",
    ),
    "normalisation": _group(
        "statistics over checked dimensions; running statistics are the module's own",
        """batch_norm _native_batch_norm_legit_no_training group_norm native_group_norm instance_norm layer_norm
        native_layer_norm renorm rms_norm
        _fused_rms_norm""",
    ),
    "recurrent layers": _group(
        "whole layers whose weights are checked against the input; scripted ones also have a branch for packed sequences",
        "gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell ",
    ),
    "attention": _group(
        "whole layers whose sizes are checked",
        """scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math
        _native_multi_head_attention _transformer_encoder_layer_fwd _safe_softmax""",
    ),
    "nested tensors of the transformer": _group(
        "a scripted nn.TransformerEncoder has them in branches of its code; masks are checked",
        """_nested_tensor_from_mask _nested_tensor_from_mask_left_aligned to_padded_tensor""",
    ),
    "shapes": _group(
        "views and copies of the same elements; sizes are checked against the number of elements",
        """alias atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat chunk clone column_stack
        concat concatenate contiguous detach diag diag_embed diagonal diagonal_copy dsplit dstack expand expand_as
        flatten flip fliplr flipud hsplit hstack lift_fresh_copy lift_fresh meshgrid moveaxis movedim narrow narrow_copy
        permute permute_copy ravel repeat repeat_interleave reshape reshape_as resolve_conj resolve_neg roll rot90
        select select_copy slice slice_copy split split_copy split_with_sizes split_with_sizes_copy squeeze squeeze_copy
        stack swapaxes swapdims t t_copy tensor_split tile transpose transpose_copy unbind unflatten unsafe_chunk
        unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy view _unsafe_view
         view_as view_as_complex view_as_real view_copy expand_copy numpy_T adjoint mT mH vsplit vstack tril triu
        combinations cartesian_prod copy copy_ fill fill_ zero zero_""",
    ),
    "indices": _group(
        "every index is compared with the size of its dimension",
        """bucketize embedding gather index index_add index_copy index_fill index_put index_select masked_fill
        masked_scatter masked_select nonzero nonzero_numpy nonzero_static one_hot put scatter scatter_add scatter_reduce
        searchsorted select_scatter slice_scatter diagonal_scatter take take_along_dim argwhere isin""",
    ),
    "new tensors": _group(
        "filled with what the program says, never left as the memory was",
        """arange eye full full_like linspace logspace new_full new_ones new_zeros ones ones_like scalar_tensor tensor
        tril_indices triu_indices zeros zeros_like bartlett_window blackman_window hamming_window hann_window
        kaiser_window""",
    ),
    "types and devices": _group(
        "a copy as another type, or a question about one",
        """to _to_copy type_as cpu is_floating_point is_complex is_same_size is_contiguous is_inference
        is_signed can_cast result_type promote_types
        _cast_Float _cast_Double _cast_Long _cast_Int _cast_Half _cast_Byte _cast_Char _cast_Short""",
    ),
    "spectra": _group(
        "transforms over checked dimensions",
        """fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn
        fft_irfftn fft_fftshift fft_ifftshift fft_fftfreq fft_rfftfreq stft istft""",
    ),
    "linear algebra": _group(
        "LAPACK on checked matrices",
        """cholesky det inverse linalg_cholesky linalg_det linalg_eigh linalg_eigvalsh linalg_inv linalg_inv_ex
        linalg_lstsq linalg_matrix_norm linalg_pinv linalg_qr linalg_slogdet linalg_solve linalg_svd logdet matrix_exp
        matrix_power slogdet svd""",
    ),
    "losses": _group(
        "some models answer with one; targets are compared with the number of classes",
        """binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss huber_loss
        kl_div l1_loss margin_ranking_loss mse_loss nll_loss nll_loss_forward nll_loss2d nll_loss_nd smooth_l1_loss
        soft_margin_loss""",
    ),
    "sizes and values": _group(
        "plain numbers about a tensor, or the only element of one",
        """dim numel size stride storage_offset sym_size sym_stride sym_numel sym_storage_offset item
        _local_scalar_dense requires_grad_ sym_constrain_range sym_constrain_range_for_size _assert_async _assert_scalar
        _assert_tensor_metadata is_grad_enabled _shape_as_tensor""",
    ),
    "numbers, texts, lists and dicts of TorchScript": _group(
        "values of the program's own, whose indices are checked",
        """Bool Complex Float FloatImplicit Int IntImplicit ComplexImplicit ScalarImplicit Delete __and__ __or__ __xor__
        __contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __range_length append capitalize clear
        count degrees endswith extend find floordiv format get index insert isalnum isalpha isdecimal isdigit islower
        isnumeric isspace istitle isupper items join keys len list lower lstrip mathremainder modf partition
        percentFormat pop popitem radians remove replace reverse rfind rpartition rsplit rstrip setdefault slice
        sorted split splitlines startswith str strip swapcase title update upper values warn dict _set_item str
        max min is_scripting is_autocast_enabled is_autocast_cpu_enabled""",
    ),
}

# Written as ops.prim.NAME, or by the parser itself. unchecked_cast is looked at once more where torch has read the
# program.
PRIM: Final = _group(
    "what TorchScript's own compiler writes: values, branches, loops and questions about tensors",
    """Constant If Loop Return Param ListConstruct ListUnpack TupleConstruct TupleUnpack TupleIndex TupleSlice
    DictConstruct GetAttr SetAttr CallMethod CallFunction CreateObject NumToTensor RaiseException Uninitialized
    unchecked_cast unchecked_unwrap_optional dtype device layout type shape is_nested is_cuda is_quantized is_sparse
    is_mkldnn is_meta requires_grad grad abs max min rangelist isinstance tolist ImplicitTensorToNum itemsize nbytes
    ndim StringIndex""",
)

# What torch.export writes beside operators of aten, each as the name that it has in the file.
EXPORTED: Final = _group(
    "arithmetic on sizes with Python's own operators, and branches whose both sides are checked as graphs of their own",
    """_operator.getitem _operator.add _operator.sub _operator.mul _operator.floordiv _operator.truediv _operator.mod
    _operator.neg _operator.pos _operator.eq _operator.ne _operator.lt _operator.le _operator.gt _operator.ge
    _operator.and_ _operator.or_ _operator.not_ math.ceil math.floor math.trunc math.sqrt torch.sym_int torch.sym_float
    torch.sym_max torch.sym_min torch.sym_not torch.sym_ite torch.ops.higher_order.cond
    torch.ops.higher_order.wrap_with_set_grad_enabled""",
)

_WRITES: Final = re.compile(r"^[Oo]ut|_out(_|$)")
_ALLOWED: Final = frozenset().union(*(group.names for group in ATEN.values()))


def is_allowed(name: str) -> bool:
    """Whether the operator `aten::name` is let through, in place or not."""
    return name in _ALLOWED or (name.endswith("_") and not name.endswith("__") and name[:-1] in _ALLOWED)


def is_allowed_overload(overload: str) -> bool:
    """Whether an overload of an operator is let through: none that writes into a tensor given as `out` is."""
    return not _WRITES.search(overload) and not overload.startswith("__")


def is_allowed_prim(name: str) -> bool:
    """Whether the operator `prim::name` is let through."""
    return name in PRIM.names


def is_allowed_target(target: str) -> bool:
    """Whether a node of an exported graph may have this target, as it is written: `torch.ops.aten.add.Tensor`."""
    namespace, _, rest = target.partition("torch.ops.aten.")
    if namespace == "" and rest:
        name, _, overload = rest.partition(".")
        # What is named prim_ is for TorchScript alone.
        is_ours = overload.isidentifier() and not overload.startswith("prim_")
        return is_ours and is_allowed_overload(overload) and is_allowed(name)
    return target in EXPORTED.names
