"""Load libtorch_cpu.so alone, by a Python of any version, and multiply two matrices by MKL, which no recording has touched.

    python old_glibc.py LIBTORCH_CPU [LIBRARY ...]

Prints the C library's version and the product's corner elements. Every further LIBRARY is loaded as well.
"""

import ctypes
import sys

libc = ctypes.CDLL("libc.so.6")
libc.gnu_get_libc_version.restype = ctypes.c_char_p
torch = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
for name in sys.argv[2:]:
    ctypes.CDLL(name)

SIZE = 40
size = ctypes.byref(ctypes.c_int(SIZE))
one, zero = ctypes.byref(ctypes.c_double(1)), ctypes.byref(ctypes.c_double(0))
matrix = (ctypes.c_double * (SIZE * SIZE))(*[float(number % 7) for number in range(SIZE * SIZE)])
product = (ctypes.c_double * (SIZE * SIZE))()
torch.DGEMM(b"N", b"N", size, size, size, one, matrix, size, matrix, size, zero, product, size)
expected = [sum(matrix[SIZE * row + k] * matrix[SIZE * k + row] for k in range(SIZE)) for row in range(SIZE)]
assert [product[(SIZE + 1) * row] for row in range(SIZE)] == expected
print(libc.gnu_get_libc_version().decode(), product[0], product[SIZE * SIZE - 1])
