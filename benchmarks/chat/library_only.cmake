# llama.cpp's build reads this after its project(). The Python package needs the library alone, and asks for the code that
# llama.cpp's programs share too, which takes half of the compiler's time.
set(LLAMA_BUILD_COMMON OFF)
