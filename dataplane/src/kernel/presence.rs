//! Whether the program still is where it was attached: root may take anybody's off, and nothing tells.

use std::os::fd::AsFd;

use super::{Changes, Kernel, attach};

impl Kernel {
    /// Sees whether somebody took the program off an interface, or put another in its place, of which
    /// there is no news; and attaches it again as soon as that can be.
    pub(super) fn look_after(&mut self, changes: &mut Changes) {
        let before = changes.lost.len() + changes.attached.len();
        for at in 0..self.interfaces.len() {
            let port = &mut self.interfaces[at];
            if let (Some((_, fd)), Some(program)) = (&port.link, port.program)
                && attach::program_of(fd.as_fd()).is_ok_and(|now| now != Some(program))
            {
                (port.link, port.taken) = (None, true);
                let why = "somebody took the program off, or put another in its place";
                changes.lost.push((port.name.clone(), why.to_owned()));
            }
            // told once: while another program is there, trying is in vain
            if port.taken
                && port.link.is_none()
                && let Ok(mut attached) = self.attach_to(at)
            {
                self.interfaces[at].describe(&mut attached);
                changes.attached.push(attached);
            }
        }
        if changes.lost.len() + changes.attached.len() > before {
            changes.more |= self.tell_links();
        }
    }
}
