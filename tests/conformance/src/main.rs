//! The program `turnwire-conformance`.

fn main() {}
