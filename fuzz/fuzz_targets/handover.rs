#![doc = "The target of `domstat_fuzz::handover`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::handover::target(data));
