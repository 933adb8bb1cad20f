# A function that uses only the torch layer.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "layer_arn" {
  type        = string
  description = "What `lambda-torch layer publish` printed for this region"
}

variable "code" {
  type        = string
  default     = "function.zip"
  description = "The function's code: cd ../function && zip ../terraform/function.zip app.py"
}

data "aws_iam_policy_document" "lambda" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name_prefix        = "torch-layer-only-"
  assume_role_policy = data.aws_iam_policy_document.lambda.json
}

resource "aws_iam_role_policy_attachment" "log" {
  role       = aws_iam_role.function.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

resource "aws_lambda_function" "function" {
  function_name    = "torch-layer-only"
  role             = aws_iam_role.function.arn
  filename         = var.code
  source_code_hash = filebase64sha256(var.code)
  handler          = "app.handler"
  # The runtime and the architecture of the layer.
  runtime       = "python3.13"
  architectures = ["x86_64"]
  memory_size   = 1769
  timeout       = 30
  layers        = [var.layer_arn]
}

output "function_name" {
  value = aws_lambda_function.function.function_name
}
