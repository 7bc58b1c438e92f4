/* First instructions of both vCPUs.
 *
 * The image is loaded at 0xffff0000, where a reset begins with the code segment there; the code below is
 * linked to 0x8000 and copies itself there. Both vCPUs stay in real mode, where interrupts are delivered and
 * halts are taken even by a KVM that emulates every instruction. Vcpu 0 gives its data segments a limit of
 * 4 GiB first, to reach the registers of its devices.
 */
    .code16
    .section .start, "ax"

/* 0x8000: where the start-up interrupt, vector 8, has vCPU 1 begin. */
    .globl _start
_start:
    cli
    ljmp    $0, $second
    .org    16

/* 0xffff0010: where the jump at the reset vector leads. */
first:
    cli
    cld
    lgdtl   %cs:(gdt_pointer - _start)
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    movw    $8, %bx
    movw    %bx, %ds
    movw    %bx, %es
    movw    %bx, %ss
    movw    %bx, %fs
    movw    %bx, %gs
    andb    $0xfe, %al
    movl    %eax, %cr0
    movl    $0xffff0000, %esi
    movl    $_start, %edi
    movl    $(COPIED / 4), %ecx
    addr32 rep movsl
    ljmp    $0, $copied
copied:
    movl    $FIRST_STACK, %esp
    movw    $timer, 4 * TIMER_VECTOR
    movw    $0, 4 * TIMER_VECTOR + 2
    calll   main_first

second:
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movl    $SECOND_STACK, %esp
    calll   main_second

/* The timer's interrupt. */
timer:
    pushw   %ax
    incl    ticks
    movb    $0x20, %al
    outb    %al, $0x20
    popw    %ax
    iretw

    .balign 8
gdt:
    .quad   0
    .quad   0x00cf92000000ffff      /* data, from 0 to 4 GiB */
gdt_pointer:
    .word   . - gdt - 1
    .long   0xffff0000 + (gdt - _start)

    .section .note.GNU-stack, "", @progbits
