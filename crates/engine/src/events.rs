//! `events`, and how verbs tell of what they did.

use crate::{Container, Engine, Error, Result};
use orlop_model::Timestamp;
use orlop_model::filter::Filters;
use orlop_state::events::Event;
use std::ops::ControlFlow;

/// `events`.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// From this moment on; None from now on.
    pub since: Option<Timestamp>,
    /// Until this moment, also in the future; None for ever.
    pub until: Option<Timestamp>,
    /// Keys of [`orlop_model::filter::EVENTS`].
    pub filters: Filters,
}

impl Engine {
    pub(crate) fn emit_container(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let name = container.name.to_string();
        let mut attributes = vec![("image", container.details.image_name.as_str()), ("name", &name)];
        attributes.extend(container.details.config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        attributes.extend(more);
        self.state.emit(&Event::now("container", action, container.id, &attributes));
    }

    /// Hands events to `sink` in order, those of every process on the host.
    pub fn events(&self, query: &EventQuery, sink: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> Result<()> {
        let mut reader = self.state.events()?;
        let since = query.since.unwrap_or_else(Timestamp::now);
        loop {
            while let Some(event) = reader.next_ready()? {
                if query.until.is_some_and(|until| event.time > until) {
                    return Ok(());
                }
                if event.time >= since && matches(&query.filters, &event) && sink(&event).is_break() {
                    return Ok(());
                }
            }
            let timeout = match query.until {
                None => None,
                Some(until) if until <= Timestamp::now() => return Ok(()),
                Some(until) => Some(until.nanos() - Timestamp::now().nanos()),
            };
            wait(reader.descriptor(), timeout)?;
            reader.drain();
        }
    }
}

fn wait(descriptor: &std::os::fd::OwnedFd, nanos: Option<i128>) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = nanos.map(|nanos| Timespec {
        tv_sec: i64::try_from(nanos.max(0) / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos.max(0) % 1_000_000_000).unwrap_or(0) as _,
    });
    match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Error::Sys(orlop_sys::Error::call("poll", error))),
    }
}

/// Docker's rules: `container=`, `image=` and `volume=` take an id or a name, `event=` an action.
fn matches(filters: &Filters, event: &Event) -> bool {
    let action = event.action.split(':').next().unwrap_or_default();
    let names = |key: &str, kind: &str| {
        !filters.contains(key)
            || filters.values(key).iter().any(|wanted| match event.kind == kind {
                true => {
                    event.actor.id == *wanted
                        || (kind == "container" && event.actor.id.starts_with(wanted.as_str()))
                        || event.actor.attributes.get("name") == Some(wanted)
                }
                // `image=` also finds the events of its containers.
                false => kind == "image" && event.actor.attributes.get("image") == Some(wanted),
            })
    };
    filters.equals("type", &event.kind)
        && (filters.equals("event", action) || filters.equals("event", &event.action))
        && names("container", "container")
        && names("image", "image")
        && names("volume", "volume")
        && filters.matches_labels(&event.actor.attributes)
}
