//! What changed between two readings, for each second between them.
//!
//! The time between them is the relay's own, by its uptime, so that a slow answer bends no rate. A
//! counter that went back began anew at zero; so did all of them when the process is another.

use super::scrape::{Scrape, Series};

/// A start that moved by more than this is another start, in seconds: the clock may be corrected.
const START_MOVED: f64 = 1.0;
/// No interval is shorter, in seconds.
const SHORTEST: f64 = 1e-3;

/// Two readings, one after the other.
#[derive(Debug)]
pub struct Interval<'a> {
    before: Option<&'a Scrape>,
    now: &'a Scrape,
    secs: f64,
}

impl<'a> Interval<'a> {
    /// From `before` to `now`.
    pub fn new(before: &'a Scrape, now: &'a Scrape) -> Interval<'a> {
        let uptime = |scrape: &Scrape| scrape.sum("turnwire_uptime_seconds", &[]).unwrap_or(0.0);
        let started = |scrape: &Scrape| scrape.sum("process_start_time_seconds", &[]);
        let moved = match (started(before), started(now)) {
            (Some(before), Some(now)) => (now - before).abs() > START_MOVED,
            _ => false,
        };
        if moved || uptime(now) < uptime(before) {
            return Interval { before: None, now, secs: uptime(now).max(SHORTEST) };
        }
        let secs = (uptime(now) - uptime(before)).max(SHORTEST);
        Interval { before: Some(before), now, secs }
    }

    /// The relay was started anew: all rates are since then.
    pub fn restarted(&self) -> bool {
        self.before.is_none()
    }

    /// Its length.
    pub fn secs(&self) -> f64 {
        self.secs
    }

    /// The newer reading.
    pub fn now(&self) -> &'a Scrape {
        self.now
    }

    /// How much a counter grew. A series that was not there before counted nothing before.
    fn grew(&self, series: &Series, now: f64) -> f64 {
        let before = self.before.and_then(|scrape| scrape.value(series)).unwrap_or(0.0);
        if now < before { now } else { now - before }
    }

    /// The rate of all counters of this name with these labels together, in units a second.
    pub fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let grew: f64 =
            self.now.all(name, labels).map(|(series, now)| self.grew(series, now)).sum();
        rounded(grew / self.secs)
    }

    /// The rates of these counters by one of their labels, the highest first, without those that
    /// stood still.
    pub fn rates_by(&self, name: &str, labels: &[(&str, &str)], by: &str) -> Vec<(String, f64)> {
        let all = self.now.all(name, labels);
        let rates = all.map(|(series, now)| {
            (series.label(by).to_owned(), rounded(self.grew(series, now) / self.secs))
        });
        let mut rates: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        rates
    }

    /// A gauge, or the sum of several; 0 where there is none.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.now.sum(name, labels).unwrap_or(0.0)
    }
}

/// To a thousandth, which is all that an interval tells.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `of` divided by `by`, where there is something to divide by.
pub fn ratio(of: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| rounded(of / by))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(start: f64, uptime: f64, rest: &str) -> Scrape {
        let page = format!(
            "process_start_time_seconds {start}\nturnwire_uptime_seconds {uptime}\n{rest}\n"
        );
        Scrape::parse(&page).expect("good")
    }

    #[test]
    fn a_rate_is_growth_over_the_relays_own_time() {
        let before = scrape(100.0, 10.0, "a_total{b=\"1\"} 5\na_total{b=\"2\"} 7");
        let now = scrape(100.0, 12.5, "a_total{b=\"1\"} 30\na_total{b=\"2\"} 7");
        let interval = Interval::new(&before, &now);
        assert!(!interval.restarted());
        assert_eq!((interval.secs(), interval.rate("a_total", &[])), (2.5, 10.0));
        assert_eq!(interval.rate("a_total", &[("b", "2")]), 0.0);
        assert_eq!(interval.rates_by("a_total", &[], "b"), [("1".to_owned(), 10.0)]);
        assert_eq!(interval.rate("none_total", &[]), 0.0);
    }

    #[test]
    fn a_series_that_appears_has_counted_from_zero() {
        let before = scrape(100.0, 10.0, "");
        let now = scrape(100.0, 12.0, "a_total{reason=\"new\"} 6");
        assert_eq!(Interval::new(&before, &now).rate("a_total", &[]), 3.0);
    }

    #[test]
    fn one_counter_that_goes_back_is_taken_from_zero_and_others_are_not() {
        let before = scrape(100.0, 10.0, "a_total 50\nb_total 50");
        let now = scrape(100.0, 12.0, "a_total 8\nb_total 60");
        let interval = Interval::new(&before, &now);
        assert!(!interval.restarted());
        assert_eq!((interval.rate("a_total", &[]), interval.rate("b_total", &[])), (4.0, 5.0));
    }

    #[test]
    fn after_a_restart_everything_is_since_the_start() {
        // an uptime that went back
        let before = scrape(100.0, 50.0, "a_total 50");
        let now = scrape(100.0, 4.0, "a_total 80");
        assert!(Interval::new(&before, &now).restarted());
        // one that did not, of another process
        let before = scrape(100.0, 3.0, "a_total 50");
        let now = scrape(120.0, 4.0, "a_total 80");
        let interval = Interval::new(&before, &now);
        assert!(interval.restarted());
        assert_eq!((interval.secs(), interval.rate("a_total", &[])), (4.0, 20.0));
        // and a clock that was corrected a little is no restart
        let now = scrape(100.4, 4.0, "a_total 80");
        assert!(!Interval::new(&before, &now).restarted());
    }

    #[test]
    fn two_readings_of_one_moment_divide_by_no_zero() {
        let one = scrape(100.0, 3.0, "a_total 50");
        assert_eq!(Interval::new(&one, &one).rate("a_total", &[]), 0.0);
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(1.0, 3.0), Some(0.333));
    }
}
