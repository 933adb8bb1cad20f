"""The routes that OpenAI's clients call (https://platform.openai.com/docs/api-reference), for models that name a task.

Nothing here is imported before a client asks for one of these routes, or for the API's document.
"""
