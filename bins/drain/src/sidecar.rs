//! A neighbour in the pod that is asked over its admin port: the proxy or ship.

use std::panic::resume_unwind;
use std::thread;

use podkit_http_client::{Error, Response, Target, request};
use podkit_lifecycle::Deadline;

/// Where a neighbour is asked, and how sure we are that it is there.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    /// Its admin port.
    pub(crate) target: Target,
    /// Whether the user said so. If not, it is the default address, where nobody need be.
    pub(crate) given: bool,
}

impl Sidecar {
    pub(crate) fn ask(&self, method: &str, path: &str, deadline: Deadline) -> Result<Response, Error> {
        request(method, &self.target, path, deadline)
    }

    /// Whether `error` only says that there is no such neighbour in this pod.
    pub(crate) fn is_absent(&self, error: &Error) -> bool {
        !self.given && error.is_refused()
    }

    /// Whether anything listens there. Contract 2 gives each admin port `/livez`, and asking it changes nothing.
    pub(crate) fn is_listening(&self, deadline: Deadline) -> bool {
        !matches!(self.ask("GET", "/livez", deadline), Err(error) if error.is_refused())
    }
}

/// Asks all at once, each in a thread of its own, so that a stuck one costs the others nothing. The answers come in
/// the order of what was asked.
pub(crate) fn each<T: Sync, R: Send>(all: &[T], ask: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if let [one] = all {
        return vec![ask(one)];
    }
    thread::scope(|scope| {
        let ask = &ask;
        let started: Vec<_> = all
            .iter()
            .map(|one| (one, thread::Builder::new().spawn_scoped(scope, move || ask(one))))
            .collect();
        let answers = started.into_iter().map(|(one, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // The container may have no more threads to give.
            Err(_) => ask(one),
        });
        answers.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn all_are_asked_at_once_and_answer_in_order() {
        let met = Barrier::new(3);
        let ask = |number: &u32| {
            met.wait();
            number * 2
        };
        assert_eq!(each(&[1, 2, 3], ask), [2, 4, 6]);
        assert_eq!(each(&[1], |number| number + 1), [2]);
        assert!(each(&[] as &[u32], |number| number + 1).is_empty());
    }
}
