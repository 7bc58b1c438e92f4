#![doc = "The target of `domstat_fuzz::qmp`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::qmp::target(data));
