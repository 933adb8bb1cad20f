"""Programs with torchvision whose answers must be those beside stock PyTorch. Each leaves JSON's values in `answer`."""

from textwrap import dedent

QUIET = {
    "a network with its weights": """
        network = torchvision.models.resnet18().eval()
        network.load_state_dict({name: torch.full_like(each, 0.01) for name, each in network.state_dict().items()})
        with torch.inference_mode():
            answer = network(torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)).tolist()
    """,
    "the transforms of a network": """
        prepare = torchvision.models.get_model_weights("resnet18").DEFAULT.transforms()
        answer = prepare(Image.linear_gradient("L").convert("RGB"))[:, ::32, ::32].tolist()
    """,
    "detection": """
        torch.manual_seed(1)
        make = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
        network = make(weights=None, weights_backbone=None, box_score_thresh=0.0, box_detections_per_img=3).eval()
        with torch.inference_mode():
            (found,) = network([torch.rand(3, 64, 64)])
        answer = {name: each.tolist() for name, each in found.items()}
    """,
    "a transformer of pictures": """
        torch.manual_seed(1)
        answer = torchvision.models.swin_t().eval()(torch.rand(1, 3, 64, 64)).tolist()
    """,
    "gradients of its operators": """
        answer = []
        for operator in (torchvision.ops.roi_align, torchvision.ops.roi_pool):
            picture = torch.arange(64.0).reshape(1, 1, 8, 8).requires_grad_()
            operator(picture, torch.tensor([[0.0, 1, 1, 6, 6]]), 2).square().sum().backward()
            answer.append(picture.grad.tolist())
    """,
    "its operators with autocast": """
        with torch.autocast("cpu", torch.bfloat16):
            boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [3, 3, 4, 4]], dtype=torch.bfloat16)
            answer = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.3], dtype=torch.bfloat16), 0.5).tolist()
    """,
    "a traced loop with boxes": """
        boxes = torch.rand(30, 4, generator=torch.Generator().manual_seed(1)).cumsum(1)
        answer = torchvision.ops.batched_nms(boxes, boxes[:, 0], torch.arange(30) % 3, 0.2).tolist()
    """,
}
"""Those that leave torch's modules waiting."""

OTHERS = {
    "functions of the second transforms": """
        from torchvision.transforms.v2 import functional
        picture = torch.arange(3 * 48 * 48, dtype=torch.uint8).reshape(3, 48, 48)
        answer = functional.normalize(functional.resize(picture, [16, 16]).float(), [0.5] * 3, [2.0] * 3).tolist()
    """,
    "the second transforms": """
        from torchvision.transforms import v2
        steps = [v2.ToImage(), v2.Resize((32, 32)), v2.ToDtype(torch.float32, scale=True)]
        answer = v2.Compose(steps)(Image.linear_gradient("L").convert("RGB"))[:, ::8, ::8].tolist()
    """,
    "a graph of torch.fx": """
        graph = torch.fx.symbolic_trace(torchvision.models.swin_t().eval()).graph
        answer = [node.name for node in graph.nodes if node.op == "call_function" and "shifted" in node.name]
        assert answer
    """,
    "features of a network": """
        from torchvision.models.feature_extraction import create_feature_extractor
        network = create_feature_extractor(torchvision.models.resnet18().eval(), {"layer1": "first"})
        answer = {name: list(each.shape) for name, each in network(torch.ones(1, 3, 64, 64)).items()}
    """,
    "export of its operators to ONNX": """
        from torch.onnx._internal.torchscript_exporter.registration import registry
        names = ["nms", "roi_align", "roi_pool"]
        answer = [registry.get_function_group(f"torchvision::{name}") is not None for name in names]
        assert all(answer)
    """,
    "the module for the export to ONNX": """
        answer = torchvision.ops._register_onnx_ops.__name__, torchvision.ops._register_custom_op.__name__
    """,
    "sizes of its operators": """
        boxes = torch.empty(5, 5, device="meta")
        answer = list(torchvision.ops.roi_align(torch.empty(1, 3, 8, 8, device="meta"), boxes, 2).shape)
    """,
    "TorchScript": """
        torch.manual_seed(1)
        boxes = torch.rand(9, 4).cumsum(1)
        compiled = torch.jit.script(torchvision.ops.batched_nms)
        answer = compiled(boxes, boxes[:, 0], torch.arange(9) % 3, 0.2).tolist(), "nms" in str(compiled.graph)
    """,
    "a quantized network": """
        answer = len(torchvision.models.quantization.resnet18(quantize=False).state_dict())
    """,
}


def whole(program: str) -> str:
    """A program that prints its answer as JSON, and what completed torch's import."""
    return f"""
import json, sys, torch, torchvision
from PIL import Image
{dedent(program)}
finder = sys.modules.get("torch_layer.finder")
print(json.dumps([answer, finder.imports().reason if finder else ""]))
"""
