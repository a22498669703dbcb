//! What each thread of this process uses of the processors, out of /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Threads that are looked at: many times what there can be of this program's own.
const THREADS_MAX: usize = 4096;

/// Ticks of a second in /proc, as every Linux shows them there.
const TICKS: u64 = 100;

/// One thread, or several of one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// It ran.
    pub running: Duration,
    /// It could have run, but every core that it may use was taken. Zero where the kernel does not
    /// count it.
    pub waiting: Duration,
}

/// The threads of this process by name; the first one, which is the control thread, is `control`.
pub fn look() -> BTreeMap<String, ThreadTime> {
    let mut threads = BTreeMap::<String, ThreadTime>::new();
    let Ok(folder) = fs::read_dir("/proc/self/task") else { return threads };
    let process = std::process::id().to_string();
    for entry in folder.take(THREADS_MAX).filter_map(Result::ok) {
        let read = |name: &str| fs::read_to_string(entry.path().join(name));
        // it may have ended meanwhile
        let Ok(stat) = read("stat") else { continue };
        let Some((name, time)) = from_stat(&stat) else { continue };
        let time = read("schedstat").ok().and_then(|text| from_schedstat(&text)).unwrap_or(time);
        let first = entry.file_name().to_str() == Some(process.as_str());
        let all = threads.entry(if first { "control" } else { name }.to_owned()).or_default();
        all.running += time.running;
        all.waiting += time.waiting;
    }
    threads
}

/// The fields of a `stat` file behind the name, which may hold anything: the first one is the state.
pub(super) fn fields(stat: &str) -> Option<(&str, Vec<&str>)> {
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name, rest.split_ascii_whitespace().collect()))
}

/// A time in ticks.
pub(super) fn ticks(field: Option<&&str>) -> Option<Duration> {
    Some(Duration::from_millis(field?.parse::<u64>().ok()? * (1000 / TICKS)))
}

fn from_stat(stat: &str) -> Option<(&str, ThreadTime)> {
    let (name, fields) = fields(stat)?;
    // utime and stime: 14 and 15 of proc(5), whose third is the first here
    let running = ticks(fields.get(11))? + ticks(fields.get(12))?;
    Some((name, ThreadTime { running, waiting: Duration::ZERO }))
}

/// Exact where `stat` counts ticks: nanoseconds that it ran, and that it waited for a core.
fn from_schedstat(text: &str) -> Option<ThreadTime> {
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().ok());
    let (running, waiting) = (numbers.next()??, numbers.next()??);
    Some(ThreadTime {
        running: Duration::from_nanos(running),
        waiting: Duration::from_nanos(waiting),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to() {
        // given
        let name = "busy (thread";
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (done, ready) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let sum = (0..3_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
            done.send(sum).expect("the test waits");
            let _ = wait.recv();
        });
        ready.recv().expect("the thread works");
        // when
        let threads = look();
        // then
        assert!(threads[name].running > Duration::from_millis(1), "{threads:?}");
        drop(go);
        thread.expect("a thread").join().expect("it ends");
    }

    #[test]
    fn a_name_may_hold_brackets_and_a_kernel_may_count_ticks_only() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 0 0 0 0 250 50 0 0 20 0 1 0 12345 0 0\n";
        let (name, time) = from_stat(stat).expect("a thread");
        assert_eq!((name, time.running), ("a (b) c", Duration::from_secs(3)));
        assert_eq!(from_stat("7 (a) S 1"), None);
        let time = from_schedstat("2000000 1000 77\n").expect("times");
        assert_eq!((time.running, time.waiting.as_nanos()), (Duration::from_millis(2), 1000));
        assert_eq!(from_schedstat("2000000\n"), None);
    }
}
