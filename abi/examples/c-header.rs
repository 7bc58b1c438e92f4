//! Prints the C header of the revision whose number is given; without one, the numbers there are.

use domstat_layout::{REVISIONS, Revision};

fn main() {
    let Some(number) = std::env::args().nth(1) else {
        return REVISIONS.iter().for_each(|revision| println!("{}", revision.number));
    };
    if let Some(revision) = number.parse().ok().and_then(Revision::of) {
        print!("{}", domstat_abi::c_header(revision));
    }
}
