#![doc = "The target of `domstat_fuzz::schema`."]
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| domstat_fuzz::schema::target(data));
