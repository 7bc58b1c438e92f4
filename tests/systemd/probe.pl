#!/usr/bin/perl
# Attempts of a process to look into the system's first process. Prints one line for each: what, and
# "refused" or "READ". The argument is an address that the first process has mapped.
use strict;
my $address = hex(shift);
sub attempt {
    my ($what, $bytes) = @_;
    print "probe: $what: ", (defined $bytes && $bytes > 0 ? "READ" : "refused"), "\n";
}
sub bytes_of { # file offset
    open(my $file, '<', $_[0]) or return undef;
    sysseek($file, $_[1], 0);
    return scalar(sysread($file, my $buffer, 8));
}
my ($buffer, $words) = ("\0" x 8, 'P Q');
my ($local, $remote) = (pack($words, $buffer, 8), pack('Q Q', $address, 8));
attempt($_, bytes_of($_, 0)) for ('/proc/1/root/etc/shadow', '/etc/shadow', '/proc/1/environ');
attempt('/proc/1/mem', bytes_of('/proc/1/mem', $address));
# 310 and 311 are the numbers of process_vm_readv and process_vm_writev on x86-64.
attempt('process_vm_readv', syscall(310, 1, $local, 1, $remote, 1, 0));
attempt('process_vm_writev', syscall(311, 1, $local, 0, $remote, 0, 0) == 0 ? 1 : 0);
