//! The program `turnwire-conformance`.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnwire_conformance::cli::main()
}
