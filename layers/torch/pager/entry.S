/* The first and the last instructions of the pager's signal handler. They move it to a stack of its own.
 *
 * The kernel puts its signal frame on the stack that the process wants for SIGSEGV handlers. The pager must not use one
 * more byte of that stack. The process sized it for other purposes: an alternate stack may end where the frame ends. So
 * nothing here pushes anything before the stack is another one. A workspace (workspace.c) is claimed, and handler.c
 * decides on its stack. Then there are two ways on:
 *   - The page is there now, or the process is about to end. The workspace is given back, and the handler returns to
 *     the kernel, as any handler does.
 *   - The signal is for the handler that the process believes in. The workspace is given back, the thread gets the
 *     signal mask for that handler, and control jumps there, with the stack pointer and the arguments that the kernel
 *     gave. That handler returns to the kernel itself. Nothing of the pager is below it or behind it, so it may also
 *     leave by siglongjmp, or never return at all.
 *
 * All signals are masked until the mask for the other handler is set, so nothing can interrupt a thread that has a
 * workspace. Registers are kept as a C function keeps them: a handler that went round the guard may call this one as
 * the one before it (Go's runtime does). Values wait in registers that system calls and signal frames keep.
 */
#include "pager.h"

#if defined __x86_64__

    .data
    .balign 8
    .globl entry_decide
    .hidden entry_decide
    .type entry_decide, @object
    .size entry_decide, 8
entry_decide:
    .quad 0

    .text
    .balign 16
    .globl entry
    .hidden entry
    .type entry, @function
entry:
    .cfi_startproc
    /* Claim a workspace: its bit in workspace_free goes from 1 to 0. */
1:  movq workspace_free(%rip), %rax
    bsfq %rax, %r9
    jz 4f
    lock btrq %r9, workspace_free(%rip)
    jnc 1b
    movq workspace_bytes(%rip), %r8
    movq %r9, %rcx
    imulq %r8, %rcx
    addq workspace_memory(%rip), %rcx

    /* Here rcx is the workspace, r8 its size, and r9 its number. The stack changes. */
2:  movq %rsp, %rax
    leaq (%rcx,%r8), %rsp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    movq %rax, %rbx
    .cfi_def_cfa %rbx, 8
    movq %rdx, %r12
    movq %r9, %r13
    movq %rsi, %r14

    /* decide(number, information, context, workspace) returns a handler, or 0, and the mask that was interrupted. */
    call *entry_decide(%rip)
    movq %rax, %r9
    movq %rdx, %r8
    movq %rbx, %rax
    movq %r12, %rdx
    movq %r13, %rcx
    movq %r14, %rsi
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    movq %rax, %rsp
    .cfi_def_cfa %rsp, 8

    /* The workspace goes back. From here on r9 is the handler, r8 the mask, rsi the information, and rdx the
     * context. */
    cmpq $WORKSPACES, %rcx
    jae 5f
    lock btsq %rcx, workspace_free(%rip)
3:  testq %r9, %r9
    jz 6f

    /* decide() has put the new mask where the frame keeps the interrupted one, as there is no other memory to pass it
     * in. */
    movq %rsi, %xmm0
    movl $__NR_rt_sigprocmask, %eax
    movl $MASK_SET, %edi
    leaq CONTEXT_MASK(%rdx), %rsi
    xorl %edx, %edx
    movl $MASK_BYTES, %r10d
    syscall
    movq %r8, (%rsi)
    movl $SIGNAL_SEGV, %edi
    leaq -CONTEXT_MASK(%rsi), %rdx
    movq %xmm0, %rsi
    jmp *%r9

    /* All workspaces are in use: this thread gets fresh memory, whose address stands for the workspace's number. */
4:  movq %rdi, %xmm0
    movq %rsi, %xmm1
    movq %rdx, %xmm2
    movl $__NR_mmap, %eax
    xorl %edi, %edi
    movq workspace_bytes(%rip), %rsi
    movl $MEMORY_READ_WRITE, %edx
    movl $MEMORY_PRIVATE_ANONYMOUS, %r10d
    movq $-1, %r8
    xorl %r9d, %r9d
    syscall
    cmpq $-4096, %rax
    ja 7f
    movq %rax, %r9
    movq %rax, %rcx
    movq %rsi, %r8
    movq %xmm0, %rdi
    movq %xmm1, %rsi
    movq %xmm2, %rdx
    jmp 2b

5:  movq %rsi, %xmm0
    movl $__NR_munmap, %eax
    movq %rcx, %rdi
    movq workspace_bytes(%rip), %rsi
    syscall
    movq %xmm0, %rsi
    jmp 3b

6:  ret

    /* The process ends with a message. Threads that come here together share the stack for it: the first one ends
     * all. */
7:  leaq workspace_last_stack+LAST_STACK_BYTES(%rip), %rsp
    call workspace_no_memory
    .cfi_endproc
    .size entry, . - entry

#elif defined __aarch64__

    .data
    .balign 8
    .globl entry_decide
    .hidden entry_decide
    .type entry_decide, %object
    .size entry_decide, 8
entry_decide:
    .xword 0

    .macro load register, name
    adrp \register, \name
    ldr \register, [\register, :lo12:\name]
    .endm

    .text
    .balign 16
    .globl entry
    .hidden entry
    .type entry, %function
entry:
    .cfi_startproc
    /* Claim a workspace: its bit in workspace_free goes from 1 to 0. */
    adrp x8, workspace_free
    add x8, x8, :lo12:workspace_free
1:  ldaxr x9, [x8]
    cbz x9, 4f
    rbit x10, x9
    clz x10, x10
    mov x11, #1
    lsl x11, x11, x10
    bic x9, x9, x11
    stlxr w12, x9, [x8]
    cbnz w12, 1b
    load x9, workspace_bytes
    load x11, workspace_memory
    madd x3, x10, x9, x11

    /* Here x3 is the workspace, x9 its size, and x10 its number. The stack changes. */
2:  mov x12, sp
    add sp, x3, x9
    stp x29, x30, [sp, #-48]!
    stp x19, x10, [sp, #16]
    stp x1, x2, [sp, #32]
    mov x19, x12
    .cfi_def_cfa x19, 0

    /* decide(number, information, context, workspace) returns a handler, or 0, and the mask that was interrupted. */
    load x9, entry_decide
    blr x9
    mov x9, x0
    mov x10, x1
    mov x12, x19
    ldp x13, x14, [sp, #32]
    ldp x19, x11, [sp, #16]
    ldp x29, x30, [sp]
    mov sp, x12
    .cfi_def_cfa sp, 0

    /* The workspace goes back. From here on x9 is the handler, x10 the mask, x13 the information, and x14 the
     * context. */
    cmp x11, #WORKSPACES
    b.hs 5f
    adrp x8, workspace_free
    add x8, x8, :lo12:workspace_free
    mov x12, #1
    lsl x12, x12, x11
8:  ldaxr x15, [x8]
    orr x15, x15, x12
    stlxr w11, x15, [x8]
    cbnz w11, 8b
3:  cbz x9, 6f

    /* decide() has put the new mask where the frame keeps the interrupted one, as there is no other memory to pass it
     * in. */
    mov x8, #__NR_rt_sigprocmask
    mov x0, #MASK_SET
    add x1, x14, #CONTEXT_MASK
    mov x2, #0
    mov x3, #MASK_BYTES
    svc #0
    str x10, [x14, #CONTEXT_MASK]
    mov w0, #SIGNAL_SEGV
    mov x1, x13
    mov x2, x14
    mov x16, x9
    br x16

    /* All workspaces are in use: this thread gets fresh memory, whose address stands for the workspace's number. */
4:  clrex
    mov w12, w0
    mov x13, x1
    mov x14, x2
    mov x8, #__NR_mmap
    mov x0, #0
    load x1, workspace_bytes
    mov x2, #MEMORY_READ_WRITE
    mov x3, #MEMORY_PRIVATE_ANONYMOUS
    mov x4, #-1
    mov x5, #0
    svc #0
    cmn x0, #4095
    b.hs 7f
    mov x3, x0
    mov x9, x1
    mov x10, x0
    mov w0, w12
    mov x1, x13
    mov x2, x14
    b 2b

5:  mov x8, #__NR_munmap
    mov x0, x11
    load x1, workspace_bytes
    svc #0
    b 3b

6:  ret

    /* The process ends with a message. Threads that come here together share the stack for it: the first one ends
     * all. */
7:  adrp x9, workspace_last_stack + LAST_STACK_BYTES
    add x9, x9, :lo12:workspace_last_stack + LAST_STACK_BYTES
    mov sp, x9
    bl workspace_no_memory
    .cfi_endproc
    .size entry, . - entry

#endif

    .section .note.GNU-stack, "", %progbits
