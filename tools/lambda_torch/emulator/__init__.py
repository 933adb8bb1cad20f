"""The function on this machine: AWS's own Runtime Interface Emulator and runtime client, S3 by moto, no Docker, no account.

processes    children that never outlive the run
software     which torch, which requirements and which interpreter the function gets
storage      S3 for the run
environment  one execution environment: one emulator process with one function process
pool         environments that take events from one queue, started as load asks for them
payloads     HTTP to API Gateway events, and answers to HTTP (pure functions)
gateway      the HTTP server in front of the pool
invoke_api   Lambda's Invoke API in front of the pool
run          all of it together, and the note that tells `lambda-torch invoke` where it is
"""
