//! The targets under libFuzzer: `TURNWIRE_FUZZ_TARGET` says which. Built and run by `scripts/fuzz`.
//!
//! With `TURNWIRE_FUZZ_SEEDS` it writes the target's first inputs into that folder instead.
#![no_main]
#![allow(
    unsafe_code,
    reason = "libfuzzer_sys::fuzz_target exports the function that libFuzzer calls"
)]

use std::sync::OnceLock;
use turnwire_fuzz::{TARGETS, Target, target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("TURNWIRE_FUZZ_TARGET").unwrap_or_default();
    let chosen = target(&name).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("TURNWIRE_FUZZ_TARGET is {name:?}; the targets are {}", names.join(", "));
        std::process::exit(2);
    });
    if let Some(folder) = std::env::var_os("TURNWIRE_FUZZ_SEEDS") {
        for (number, seed) in (chosen.seeds)().iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{number:02}"));
            std::fs::write(&path, seed)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        std::process::exit(0);
    }
    CHOSEN.get_or_init(|| chosen);
}

libfuzzer_sys::fuzz_target!(init: choose(), |bytes: &[u8]| {
    let target = CHOSEN.get().expect("libFuzzer calls init first");
    (target.run)(bytes);
});
