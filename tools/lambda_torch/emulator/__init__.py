"""The function on this machine: a Runtime API of our own, AWS's runtime client, and an S3 server (moto).

processes        child processes that never outlive the run
software         which torch, which requirements and which interpreter the function gets
storage          S3 for the run
function         a function's configuration, and the result of an invocation
answer_stream    a streamed answer between the function and one reader
runtime_wire     HTTP of the Runtime API, with trailers
runtime_api      Lambda's Runtime API for one process
environment      one execution environment: one process and its Runtime API
rie_environment  the same with AWS's Runtime Interface Emulator, which the SAM CLI ships
crew             environments that take events from one queue and start when the load needs them
loop_thread      an event loop in a thread
pool             the crew on its own loop, for any thread
payloads         HTTP requests to API Gateway events (pure functions)
payload_answers  the function's answers to HTTP responses (pure functions)
gateway          the HTTP server in front of the pool
invoke_api       Lambda's Invoke API in front of the pool
run              all of it together, and the note with its address for `lambda-torch invoke`
"""
