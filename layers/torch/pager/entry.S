/* The first and the last instructions of the pager's signal handler. They move it to a stack of its own.
 *
 * The kernel puts its signal frame on the stack that the process wants for SIGSEGV handlers. The pager must not use one
 * more byte of that stack, since the process sized it for other purposes: an alternate stack may end where the frame ends.
 * So nothing here pushes anything before the stack is another one. A workspace (workspace.c) is claimed, and
 * handler.c decides on its stack. Then there are two ways on:
 *   - The page is there now, or the process is about to end. The workspace is given back, and the handler returns to the
 *     kernel, as any handler does.
 *   - The signal is for the handler that the process believes in. The workspace is given back, the thread gets the
 *     signal mask for that handler, and control jumps there with the stack pointer and the arguments that the kernel
 *     gave. That handler returns to the kernel itself. Nothing of the pager is below it or behind it, so it may also leave
 *     by siglongjmp, or never return at all.
 *
 * All registers may be used freely: the kernel has the interrupted ones in its frame, and brings them back from there. All
 * signals are masked until the mask for the other handler is set, so nothing can interrupt a thread that has a workspace.
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
    movq %rsp, %rbx /* where the kernel's frame begins, with the address to return to */
    .cfi_def_cfa %rbx, 8
    movq %rsi, %r14
    movq %rdx, %r12

    /* Claim a workspace: its bit in workspace_free goes from 1 to 0. */
1:  movq workspace_free(%rip), %rax
    bsfq %rax, %r15
    jz 4f
    lock btrq %r15, workspace_free(%rip)
    jnc 1b
    movq workspace_bytes(%rip), %rax
    movq %r15, %rcx
    imulq %rax, %rcx
    addq workspace_memory(%rip), %rcx

    /* decide(number, information, context, workspace) returns a handler, or 0, and the mask that was interrupted. */
2:  leaq (%rcx,%rax), %rsp
    call *entry_decide(%rip)
    movq %rbx, %rsp
    movq %rax, %r9
    movq %rdx, %r8

    cmpq $WORKSPACES, %r15
    jae 5f
    lock btsq %r15, workspace_free(%rip)
3:  testq %r9, %r9
    jz 6f

    /* decide() has put the new mask where the frame keeps the interrupted one, as there is no other memory to pass it in. */
    movl $__NR_rt_sigprocmask, %eax
    movl $MASK_SET, %edi
    leaq CONTEXT_MASK(%r12), %rsi
    xorl %edx, %edx
    movl $MASK_BYTES, %r10d
    syscall
    movq %r8, CONTEXT_MASK(%r12)
    movl $SIGNAL_SEGV, %edi
    movq %r14, %rsi
    movq %r12, %rdx
    jmp *%r9

    /* All workspaces are in use: this thread gets fresh memory, whose address stands for the workspace's number. */
4:  movl %edi, %ebp
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
    movq %rax, %r15
    movq %rax, %rcx
    movq workspace_bytes(%rip), %rax
    movl %ebp, %edi
    movq %r14, %rsi
    movq %r12, %rdx
    jmp 2b

5:  movl $__NR_munmap, %eax
    movq %r15, %rdi
    movq workspace_bytes(%rip), %rsi
    syscall
    jmp 3b

6:  ret

    /* The process ends with a message. Threads that come here together share the stack for it: the first one ends all. */
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
    mov x19, sp
    mov x20, x30 /* where the kernel wants the handler to return to */
    .cfi_def_cfa x19, 0
    .cfi_register x30, x20
    mov w21, w0
    mov x22, x1
    mov x23, x2
    adrp x28, workspace_free
    add x28, x28, :lo12:workspace_free

    /* Claim a workspace: its bit in workspace_free goes from 1 to 0. */
1:  ldaxr x9, [x28]
    cbz x9, 4f
    rbit x10, x9
    clz x24, x10
    mov x11, #1
    lsl x11, x11, x24
    bic x9, x9, x11
    stlxr w12, x9, [x28]
    cbnz w12, 1b
    load x9, workspace_bytes
    load x11, workspace_memory
    madd x3, x24, x9, x11

    /* decide(number, information, context, workspace) returns a handler, or 0, and the mask that was interrupted. */
2:  add sp, x3, x9
    load x10, entry_decide
    blr x10
    mov sp, x19
    mov x25, x0
    mov x26, x1

    cmp x24, #WORKSPACES
    b.hs 5f
    mov x11, #1
    lsl x11, x11, x24
8:  ldaxr x9, [x28]
    orr x9, x9, x11
    stlxr w12, x9, [x28]
    cbnz w12, 8b
3:  cbz x25, 6f

    /* decide() has put the new mask where the frame keeps the interrupted one, as there is no other memory to pass it in. */
    mov x8, #__NR_rt_sigprocmask
    mov x0, #MASK_SET
    add x1, x23, #CONTEXT_MASK
    mov x2, #0
    mov x3, #MASK_BYTES
    svc #0
    str x26, [x23, #CONTEXT_MASK]
    mov w0, #SIGNAL_SEGV
    mov x1, x22
    mov x2, x23
    mov x30, x20
    mov x16, x25
    br x16

    /* All workspaces are in use: this thread gets fresh memory, whose address stands for the workspace's number. */
4:  clrex
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
    mov x24, x0
    mov x3, x0
    load x9, workspace_bytes
    mov w0, w21
    mov x1, x22
    mov x2, x23
    b 2b

5:  mov x8, #__NR_munmap
    mov x0, x24
    load x1, workspace_bytes
    svc #0
    b 3b

6:  mov x30, x20
    ret

    /* The process ends with a message. Threads that come here together share the stack for it: the first one ends all. */
7:  adrp x9, workspace_last_stack + LAST_STACK_BYTES
    add x9, x9, :lo12:workspace_last_stack + LAST_STACK_BYTES
    mov sp, x9
    bl workspace_no_memory
    .cfi_endproc
    .size entry, . - entry

#endif

    .section .note.GNU-stack, "", %progbits
