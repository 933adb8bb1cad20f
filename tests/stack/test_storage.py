from stack.kit import Stack


def test_the_bucket_is_private_encrypted_and_versioned() -> None:
    """No public access, encryption at rest, every version kept, and the stack's end does not take it along."""
    stack = Stack()
    bucket = stack.properties("ModelBucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert stack.resources["ModelBucket"]["DeletionPolicy"] == "Retain"
    assert stack.resources["ModelBucket"]["UpdateReplacePolicy"] == "Retain"


def test_bucket_and_queues_take_tls_only() -> None:
    """Whoever asks without TLS is denied everything, at the bucket and at both queues."""
    stack = Stack()
    policies = {
        "ModelBucketPolicy": {"arn:aws:s3:::ModelBucket", "arn:aws:s3:::ModelBucket/*"},
        "QueuePolicy": {f"arn:aws:sqs:us-east-1:123456789012:{name}" for name in ("RequestQueue", "FailedRequests")},
    }
    for name, resources in policies.items():
        (statement,) = [
            each
            for each in stack.properties(name)["PolicyDocument"]["Statement"]
            if each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        ]
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Action"] in ("s3:*", "sqs:*")
        assert set(statement["Resource"]) == resources


def test_what_clients_sent_and_got_is_removed() -> None:
    """Inputs and results expire after ResultDays, uploads after a day; releases and channels never do."""
    rules = Stack(ResultDays="3").properties("ModelBucket")["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {"inbox/": "3", "bulk/": "3", "results/": "3", "uploads/": 1}
    assert all(rule["Status"] == "Enabled" for rule in rules)


def test_old_versions_and_broken_uploads_are_removed() -> None:
    """Old versions go after 30 days, those of what clients sent and got after one, and parts of unfinished uploads after two."""
    rules = Stack().properties("ModelBucket")["LifecycleConfiguration"]["Rules"]
    days = {
        rule.get("Prefix", ""): rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for rule in rules
        if "NoncurrentVersionExpiration" in rule
    }
    assert days == {"": 30, "inbox/": 1, "bulk/": 1, "results/": 1, "uploads/": 1}
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules if "AbortIncompleteMultipartUpload" in rule] == [
        {"DaysAfterInitiation": 2}
    ]


def test_delete_markers_are_removed() -> None:
    """A marker without versions goes; S3 refuses a rule that says this and has days or tags."""
    rules = Stack().properties("ModelBucket")["LifecycleConfiguration"]["Rules"]
    (rule,) = [rule for rule in rules if rule.get("ExpiredObjectDeleteMarker")]
    assert rule.keys() == {"Id", "Status", "ExpiredObjectDeleteMarker"}


def test_messages_are_encrypted_and_given_up_after_five_tries() -> None:
    """Both queues encrypt; what failed five times goes to the queue of failed requests, which keeps it for two weeks."""
    stack = Stack(QueueVisibilitySeconds="200")
    queue, failed = stack.properties("RequestQueue"), stack.properties("FailedRequests")
    assert queue["SqsManagedSseEnabled"] is failed["SqsManagedSseEnabled"] is True
    assert queue["VisibilityTimeout"] == "200"
    assert queue["RedrivePolicy"]["deadLetterTargetArn"].endswith(":FailedRequests")
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert failed["MessageRetentionPeriod"] == 14 * 86400


def test_the_queue_feeds_the_alias_with_partial_answers() -> None:
    """Messages go to the live alias, of which only those that failed come again, and leave environments to the API."""
    (mapping,) = Stack(QueueConcurrency="4").of_type("AWS::Lambda::EventSourceMapping").values()
    assert mapping["FunctionName"].endswith(":function:PredictFunction:live")
    assert mapping["EventSourceArn"].endswith(":RequestQueue")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": "4"}
