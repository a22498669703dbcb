//! Whether workers still run where they were pinned: somebody else may change that at any time
//! (taskset, a cpuset of a control group, a core that is switched off), and nothing tells.
//!
//! A worker goes on wherever it may run. It is not pinned again: who moved it will have known why.

use std::fs;
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// A thread that was pinned.
struct Pinned {
    /// Its worker.
    worker: usize,
    core: usize,
    thread: String,
    strayed: bool,
}

/// All threads that were pinned.
pub(super) struct Pinning {
    all: Vec<Pinned>,
    looked: Duration,
}

impl Pinning {
    /// For workers by number, session threads after them, with their cores.
    pub(super) fn new(cores: &[Option<usize>]) -> Pinning {
        let threads = threads();
        let workers = threads.iter().filter(|(name, _)| name.starts_with('w')).count();
        let pinned = threads.into_iter().filter_map(|(name, thread)| {
            let number: usize = name.get(1..)?.parse().ok()?;
            let worker = if name.starts_with('w') { number } else { workers + number };
            let core = (*cores.get(worker)?)?;
            Some(Pinned { worker, core, thread, strayed: false })
        });
        Pinning { all: pinned.collect(), looked: Duration::ZERO }
    }

    /// Looks, now and then, and logs what changed.
    pub(super) fn tick(&mut self, now: Duration) {
        if now.saturating_sub(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        for one in &mut self.all {
            let Some(allowed) = allowed(&one.thread) else { continue };
            let strayed = allowed != one.core.to_string();
            if strayed == std::mem::replace(&mut one.strayed, strayed) {
                continue;
            }
            let Pinned { worker, core, .. } = *one;
            if strayed {
                tracing::warn!(
                    worker,
                    core,
                    allowed,
                    "a worker is not held to its core any more: somebody changed where it may run, \
                     and it works on there"
                );
            } else {
                tracing::info!(worker, core, "a worker is held to its core again");
            }
        }
    }

    /// Workers that were pinned, and whether they may run elsewhere now.
    pub(super) fn strayed(&self) -> Vec<(usize, bool)> {
        let mut all: Vec<_> = self.all.iter().map(|one| (one.worker, one.strayed)).collect();
        all.sort_unstable();
        all
    }
}

/// This process's workers and session threads: names without what all have in common, and numbers.
fn threads() -> Vec<(String, String)> {
    let Ok(folder) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let thread = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let name = name.trim().strip_prefix("turnwire-")?.to_owned();
        let known = name.starts_with(['w', 's']);
        known.then_some((name, entry.file_name().into_string().ok()?))
    };
    folder.filter_map(Result::ok).filter_map(thread).collect()
}

/// The cores that a thread may run on, as the kernel writes them: `0-2,5`.
fn allowed(thread: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}
