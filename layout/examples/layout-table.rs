//! Prints the layout tables that `TABLE.md` holds.

fn main() {
    print!("{}", domstat_layout::table::LayoutTable);
}
