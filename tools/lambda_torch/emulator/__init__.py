"""The function on this machine: AWS's own Runtime Interface Emulator and runtime client, and an S3 server (moto).

processes        child processes that never outlive the run
software         which torch, which requirements and which interpreter the function gets
storage          S3 for the run
environment      one execution environment: one emulator process with one function process
pool             environments that take events from one queue and start when the load needs them
payloads         HTTP requests to API Gateway events (pure functions)
payload_answers  the function's answers to HTTP responses (pure functions)
gateway          the HTTP server in front of the pool
invoke_api       Lambda's Invoke API in front of the pool
run              all of it together, and the note with its address for `lambda-torch invoke`
"""
