//! Whether a request may be sent once more. Pure: what is known of a try goes in.
//!
//! The rule: never what the upstream may have acted on, unless it is idempotent and none of its body is gone
//! (RFC 9110 9.2.2), and never once a byte of an answer has come.

use super::broken::Broken;

/// How far a try came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    /// Over a connection that had carried a request before.
    pub(super) reused: bool,
    /// A byte of the request was taken.
    pub(super) sent: bool,
    /// A byte of an answer came.
    pub(super) answered: bool,
    /// The request is idempotent and has no body.
    pub(super) repeatable: bool,
    /// The request has no body, or all of it is still there, so it can be sent again if it may.
    pub(super) at_hand: bool,
}

/// Why a request may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// The upstream closed an idle connection, as it may, while the request was on its way.
    IdleClosed,
    /// The upstream has said that it did nothing with it (RFC 9113 8.7).
    Refused,
    /// Nothing of it was sent.
    Unsent,
    /// There was no answer, and it does no harm twice.
    NoAnswer,
}

impl Again {
    /// The label of `podkit_proxy_upstream_retries_total`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::IdleClosed => "idle_closed",
            Self::Refused => "refused",
            Self::Unsent => "unsent",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// `None` where it must not.
pub(super) fn again(broken: &Broken, last: Try) -> Option<Again> {
    if last.answered {
        return None;
    }
    match broken {
        Broken::Unseen if last.at_hand || !last.sent => Some(Again::Refused),
        Broken::Upstream if last.reused && (last.repeatable || !last.sent) => Some(Again::IdleClosed),
        Broken::Upstream | Broken::Unseen | Broken::Reset if !last.sent => Some(Again::Unsent),
        Broken::Upstream | Broken::Unseen | Broken::Reset if last.repeatable => Some(Again::NoAnswer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Try = Try { reused: false, sent: true, answered: false, repeatable: true, at_hand: true };
    const POST: Try = Try { repeatable: false, at_hand: false, ..GET };
    const EMPTY_POST: Try = Try { at_hand: true, ..POST };

    #[test]
    fn what_may_have_been_acted_on_is_sent_again_only_if_it_does_no_harm() {
        assert_eq!(again(&Broken::Upstream, GET), Some(Again::NoAnswer));
        assert_eq!(again(&Broken::Upstream, POST), None);
        assert_eq!(again(&Broken::Upstream, EMPTY_POST), None);
        assert_eq!(again(&Broken::Upstream, Try { reused: true, ..POST }), None);
    }

    #[test]
    fn what_was_not_sent_or_was_refused_unseen_is_sent_again() {
        assert_eq!(again(&Broken::Upstream, Try { sent: false, ..POST }), Some(Again::Unsent));
        assert_eq!(
            again(&Broken::Upstream, Try { sent: false, reused: true, ..POST }),
            Some(Again::IdleClosed)
        );
        assert_eq!(again(&Broken::Unseen, EMPTY_POST), Some(Again::Refused));
        assert_eq!(again(&Broken::Unseen, POST), None, "its body is gone");
        assert_eq!(again(&Broken::Unseen, Try { sent: false, ..POST }), Some(Again::Refused));
    }

    #[test]
    fn a_pooled_connection_that_ended_is_told_from_an_app_that_does_not_answer() {
        assert_eq!(again(&Broken::Upstream, Try { reused: true, ..GET }), Some(Again::IdleClosed));
    }

    /// A try that is free, and from which nothing is learnt, would double the load of an app that resets all it gets.
    #[test]
    fn a_stream_that_was_reset_on_a_connection_that_lives_counts_against_the_budget() {
        assert_eq!(again(&Broken::Reset, Try { reused: true, ..GET }), Some(Again::NoAnswer));
        assert_eq!(again(&Broken::Reset, Try { reused: true, ..EMPTY_POST }), None);
    }

    #[test]
    fn nothing_is_sent_again_behind_a_byte_of_an_answer_or_for_a_fault_of_another_kind() {
        for broken in [Broken::Upstream, Broken::Unseen] {
            assert_eq!(again(&broken, Try { answered: true, reused: true, ..GET }), None);
        }
        assert_eq!(again(&Broken::Timeout, GET), None);
        assert_eq!(again(&Broken::Client, Try { reused: true, sent: false, ..GET }), None);
    }
}
