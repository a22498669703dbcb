//! What happens when time is up.

use super::association::{Over, Wire};
use super::member::{Carrier, Member};
use super::members::Key;
use super::{Ending, Session};
use std::time::Duration;

impl Session {
    /// Sees to it that a client is looked at when its time is up.
    pub(super) fn arm(&mut self, key: Key) {
        let Self { members, wheel, settings, .. } = self;
        let Some(member) = members.get(key) else { return };
        let (mut deadline, _) = member.deadline(&settings.timers);
        if let Carrier::Dtls(association) = &member.carrier
            && let Some(wake) = association.wake
        {
            deadline = deadline.min(wake);
        }
        wheel.arm(&mut member.core.armed, key, deadline);
    }

    /// Looks at those whose time has come.
    pub(super) fn time_out(&mut self, now: Duration) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.turn(now, &mut due);
        for (key, number) in due.drain(..) {
            let valid =
                self.members.get(key).is_some_and(|member| member.core.armed.comes_up(number));
            if valid {
                self.look_at(key, now);
            }
        }
        self.due = due;
    }

    fn look_at(&mut self, key: Key, now: Duration) {
        let Self { members, relay, room, clock, settings, .. } = self;
        let Some(member) = members.get(key) else { return };
        let (deadline, ending) = member.deadline(&settings.timers);
        if deadline <= now {
            return self.end(key, ending, now);
        }
        let Member { core, carrier } = member;
        match carrier {
            Carrier::Stream(flow) => {
                if flow.splice.is_none() {
                    flow.stream.relax();
                }
            }
            Carrier::Dtls(association) => {
                let remote = core.client.remote;
                let mut wire = Wire { relay, room, clock: *clock, now, remote };
                if association.wake.is_some_and(|wake| wake <= now)
                    && let Err(over) = association.wake_up(&mut wire)
                {
                    return self.end(key, over.into(), now);
                }
            }
        }
        self.arm(key);
    }
}

impl From<Over> for Ending {
    fn from(over: Over) -> Self {
        match over {
            Over::Closed => Self::Client,
            Over::Failed => Self::Tls,
        }
    }
}
