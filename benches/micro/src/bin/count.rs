//! `turnwire-count`: counts instructions with callgrind, and holds them against the baseline. Built and
//! run by `scripts/count`.
//!
//! ```text
//!   turnwire-count compare | renew ──> valgrind --tool=callgrind turnwire-count run CASE   (each)
//!                                        prepare          not counted
//!                                        turnwire_counted counted: --toggle-collect
//! ```
//!
//! No clock is looked at. The same binary gives the same count: seeds are fixed, the environment is
//! empty, and what would come from the operating system's randomness comes from [`getrandom`] below,
//! so that hash maps have the same order every time.
#![allow(
    unsafe_code,
    reason = "two symbols by name: for callgrind, and in place of the C library's"
)]

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use turnwire_micro::baseline::Baseline;
use turnwire_micro::cases::{CASES, case};

/// In place of the C library's: always the same bytes.
///
/// # Safety
/// As the C library's: `buffer` has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, size: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_bytes(buffer.cast::<u8>(), 0x5a, size) };
    size.cast_signed()
}

/// Everything inside this function is counted. Named, so that callgrind finds it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn turnwire_counted(work: &mut Box<dyn FnMut()>) {
    work();
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", name] => run(name),
        ["compare"] => compare(),
        ["renew"] => count_all().and_then(|now| now.write()),
        ["show"] => count_all().map(|now| println!("{now:#?}")),
        _ => Err(anyhow::anyhow!("usage: turnwire-count compare | renew | show | run CASE")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turnwire-count: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Under callgrind: does the work, and says how often.
fn run(name: &str) -> anyhow::Result<()> {
    let mut prepared = (case(name).context("no case of this name")?.prepare)();
    turnwire_counted(&mut prepared.work);
    println!("times {} cpu {}", prepared.times, cpu());
    Ok(())
}

/// The CPU's features that libraries choose their code by, as they look under valgrind.
fn cpu() -> &'static str {
    let has = [
        std::arch::is_x86_feature_detected!("avx512f"),
        std::arch::is_x86_feature_detected!("sha"),
        std::arch::is_x86_feature_detected!("avx2"),
    ];
    match has {
        [_, true, _] => "sha",
        [true, ..] => "avx512",
        [_, _, true] => "avx2",
        _ => "baseline x86-64",
    }
}

fn compare() -> anyhow::Result<()> {
    let comparison = Baseline::read()?.compare(&count_all()?);
    print!("{}", comparison.report());
    ensure!(comparison.is_good(), "more instructions than the baseline allows");
    Ok(())
}

fn count_all() -> anyhow::Result<Baseline> {
    ensure!(
        !cfg!(debug_assertions),
        "counts of a debug build say nothing: scripts/count builds it right"
    );
    let mut instructions = BTreeMap::new();
    let mut tools = tools()?;
    for case in CASES {
        let (count, cpu) = count(case.name).with_context(|| case.name.to_string())?;
        instructions.insert(case.name.to_string(), count);
        tools.insert("cpu".into(), cpu);
    }
    let again = count(CASES[0].name)?.0;
    let first = instructions[CASES[0].name];
    ensure!(again == first, "the same case took {first} and {again} instructions: not repeatable");
    Ok(Baseline { tools, instructions })
}

/// Instructions each time, to two places; and the CPU's features.
fn count(name: &str) -> anyhow::Result<(f64, String)> {
    let out = std::env::temp_dir().join(format!("turnwire-count.{}", std::process::id()));
    let output = Command::new("valgrind")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(["--tool=callgrind", "--toggle-collect=turnwire_counted", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["run", name])
        .output()
        .context("valgrind: apt-get install valgrind")?;
    let text = std::fs::read_to_string(&out).unwrap_or_default();
    let _ = std::fs::remove_file(&out);
    if !output.status.success() {
        bail!("valgrind: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = String::from_utf8(output.stdout)?;
    let rest = said.trim().strip_prefix("times ").context("the case said nothing")?;
    let (times, cpu) = rest.split_once(" cpu ").context("the case said no CPU")?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = totals.context("no totals in callgrind's file")?.trim().parse()?;
    ensure!(total > 0.0, "callgrind counted nothing: turnwire_counted was not found");
    let each = total / times.parse::<f64>()?;
    Ok(((each * 100.0).round() / 100.0, cpu.to_string()))
}

/// What the counts belong to.
fn tools() -> anyhow::Result<BTreeMap<String, String>> {
    let version = |program: &str| -> anyhow::Result<String> {
        let output =
            Command::new(program).arg("--version").output().with_context(|| program.to_string())?;
        Ok(String::from_utf8(output.stdout)?.lines().next().unwrap_or("").to_string())
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    Ok(BTreeMap::from([
        ("rustc".into(), version(&rustc)?),
        ("valgrind".into(), version("valgrind")?),
        ("libc".into(), version("ldd")?),
    ]))
}
