//! `turnwire-load search`: the highest rate with no more than so much loss.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::{begin, write};
use crate::bisect::{Bisection, Next, Verdict};
use crate::cli::SearchArgs;
use crate::lab::{Lab, Load};
use crate::progress::Progress;
use crate::report::{FoundRate, Report, RunResult, SearchResult, Trial, percent, rate};
use crate::sys::wall_clock;

/// The first trial warms caches, tables and clocks up; it does not count.
const WARM_UP: Duration = Duration::from_millis(500);
/// A generator that does not keep up may have been held up by something else on its machine: only
/// so often in a row is it its limit.
const STUTTERS_MAX: usize = 3;

pub(super) fn search(args: &SearchArgs) -> Result<ExitCode> {
    let (from, up_to) = args.check()?;
    let options = args.load.options(&args.server, wall_clock())?;
    let mut report = begin("search", &options, args.load.direction.name(), &args.output);
    let mut progress = Progress::new(args.output.quiet);
    let established = Lab::establish(options, &mut progress);
    match established.lab {
        Err(error) => report.note_setup(established.setup, &error),
        Ok(lab) => {
            report.setup = Some(established.setup);
            let mut search = Search {
                lab,
                args,
                report: &mut report,
                progress: &mut progress,
                result: SearchResult { rates: Vec::new(), trials: Vec::new() },
            };
            let done = search.all(from, up_to);
            let Search { lab, result, .. } = search;
            lab.close();
            report.search = Some(result);
            if let Err(error) = done {
                report.fail(format!("{error:#}"), None);
            }
        }
    }
    write(&report, &args.output)
}

struct Search<'a> {
    lab: Lab,
    args: &'a SearchArgs,
    report: &'a mut Report,
    progress: &'a mut Progress,
    result: SearchResult,
}

impl Search<'_> {
    fn all(&mut self, from: f64, up_to: f64) -> Result<()> {
        if self.trial(from, WARM_UP.min(self.args.trial))?.is_none() {
            return Ok(());
        }
        self.result.trials.clear();
        let mut begin = from;
        for loss_max in self.args.loss.clone() {
            let Some(found) = self.one(loss_max, begin, up_to)? else { return Ok(()) };
            begin = found.pps.unwrap_or(from).max(1.0).min(up_to);
            self.result.rates.push(found);
        }
        Ok(())
    }

    /// The search for one loss; `None` when it ended early.
    fn one(&mut self, loss_max: f64, from: f64, up_to: f64) -> Result<Option<FoundRate>> {
        let Self { args: &SearchArgs { precision, confirm, trial, .. }, .. } = *self;
        let mut bisection = Bisection::new(from, up_to, precision, confirm);
        let mut last: Option<RunResult> = None;
        loop {
            match bisection.next() {
                Next::Try(asked) => {
                    let mut run = None;
                    for _ in 0..STUTTERS_MAX {
                        let Some(again) = self.trial(asked, trial)? else { return Ok(None) };
                        let kept_up = again.kept_up();
                        let better = |run: &RunResult| again.sent_pps > run.sent_pps;
                        if kept_up || run.as_ref().is_none_or(better) {
                            run = Some(again);
                        }
                        if kept_up {
                            break;
                        }
                    }
                    let Some(run) = run else { return Ok(None) };
                    let delivered = run.totals.undelivered_ratio() <= loss_max;
                    let verdict = match (delivered, run.kept_up()) {
                        (true, true) => Verdict::Pass,
                        (true, false) => Verdict::Limit,
                        (false, _) => Verdict::Fail,
                    };
                    let did = if verdict == Verdict::Limit { run.sent_pps } else { asked };
                    bisection.note(did, verdict);
                    if verdict != Verdict::Fail {
                        last = Some(run);
                    }
                }
                Next::Found(_, confirmed, generator_limited) => {
                    self.report.run.clone_from(&last);
                    return Ok(Some(FoundRate {
                        loss_max,
                        pps: last.as_ref().map(|run| run.received_pps),
                        confirmed,
                        generator_limited,
                        latency: last.as_ref().and_then(|run| run.latency.clone()),
                        server_cpu: last.and_then(|run| run.server_cpu),
                    }));
                }
                Next::Nothing => {
                    return Ok(Some(FoundRate {
                        loss_max,
                        pps: None,
                        confirmed: 0,
                        generator_limited: false,
                        latency: None,
                        server_cpu: None,
                    }));
                }
            }
        }
    }

    /// One trial; `None` when Ctrl-C or a failure ended it.
    fn trial(&mut self, asked: f64, duration: Duration) -> Result<Option<RunResult>> {
        let load = Load { rate: Some(asked), duration };
        let measured = self.lab.measure(load, self.progress)?;
        if measured.interrupted {
            self.report.interrupt();
        }
        if let Some(error) = &measured.failure {
            self.report.fail_control(error);
        }
        if measured.interrupted || measured.failure.is_some() {
            self.report.run = Some(measured.result);
            return Ok(None);
        }
        let run = measured.result;
        let trial = Trial {
            asked_pps: asked,
            sent_pps: run.sent_pps,
            undelivered_ratio: run.totals.undelivered_ratio(),
            p99_us: run.latency.as_ref().map(|latency| latency.p99_us),
            kept_up: run.kept_up(),
        };
        self.progress.line(&format!(
            "trial: asked {}/s, sent {}/s, undelivered {}{}",
            rate(trial.asked_pps),
            rate(trial.sent_pps),
            percent(trial.undelivered_ratio),
            if trial.kept_up { "" } else { " (the generator did not keep up)" }
        ));
        self.result.trials.push(trial);
        Ok(Some(run))
    }
}
