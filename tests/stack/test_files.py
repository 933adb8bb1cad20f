from serving.uploads import PREFIX
from stack.kit import Stack


def test_no_body_is_damaged_on_its_way() -> None:
    """API Gateway gives bodies of every type as bytes: a text would lose what is no UTF-8."""
    api = Stack().properties("PredictApi")
    # CloudFormation's property has ~1 in place of a slash.
    assert (api["BinaryMediaTypes"], api["Body"]["x-amazon-apigateway-binary-media-types"]) == (["*~1*"], ["*/*"])


def test_the_function_may_take_uploads_and_read_them() -> None:
    """A form that it signs may write below the prefix of uploads, and nowhere else."""
    stack = Stack()
    for action in ("s3:PutObject", "s3:GetObject"):
        assert stack.allows("PredictRole", action, f"arn:aws:s3:::ModelBucket/{PREFIX}0123")
        assert not stack.allows("PredictRole", action, "arn:aws:s3:::ModelBucket/uploads")
    assert not stack.allows("PredictRole", "s3:PutObject", "arn:aws:s3:::ModelBucket/inbox/input.jsonl")
