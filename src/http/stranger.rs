//! Whom an audit line is about: the addresses from which a request came, as far as they are known.

use std::net::{IpAddr, SocketAddr};

use hyper::Request;

use super::listener::Peer;

/// The sender of a request that nobody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// At the other end of the connection; a proxy, often.
    pub peer: SocketAddr,
    /// For whom a proxy says it has forwarded this: for the log, and never a proof of anything.
    pub forwarded: Option<IpAddr>,
}

impl Stranger {
    pub fn of<B>(request: &Request<B>, peer: Peer) -> Self {
        // The last entry is the nearest proxy's; those before it anybody may have written.
        let forwarded = request
            .headers()
            .get_all("x-forwarded-for")
            .iter()
            .next_back();
        let forwarded = forwarded
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.rsplit(',').next())
            .and_then(|address| address.trim().parse().ok());
        Stranger {
            peer: peer.addr,
            forwarded,
        }
    }
}

/// An audit line about a stranger. They can cause it as often as they like, so it is limited.
macro_rules! refuse {
    ($level:ident, $stranger:expr, $($rest:tt)*) => {{
        let $crate::http::stranger::Stranger { peer, forwarded } = $stranger;
        let forwarded = forwarded.map(tracing::field::display);
        tracing::$level!(target: "audit", limited = true, %peer, forwarded, $($rest)*)
    }};
}

pub(super) use refuse;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_nearest_proxy_says_is_told_and_only_if_it_is_an_address() {
        let addr = "192.0.2.1:9".parse().unwrap();
        let forwarded = |values: &[&str]| {
            let mut request = Request::builder();
            for value in values {
                request = request.header("X-Forwarded-For", *value);
            }
            let request = request.body(()).unwrap();
            let stranger = Stranger::of(&request, Peer { addr });
            assert_eq!(stranger.peer, addr);
            stranger.forwarded.map(|address| address.to_string())
        };
        assert_eq!(forwarded(&["203.0.113.7"]).unwrap(), "203.0.113.7");
        assert_eq!(
            forwarded(&["1.1.1.1", "6.6.6.6, 2001:db8::1"]).unwrap(),
            "2001:db8::1"
        );
        for none in [
            &[][..],
            &["+15551234567"],
            &["1.1.1.1, unknown"],
            &["1.1.1.1,"],
        ] {
            assert_eq!(forwarded(none), None, "{none:?}");
        }
    }
}
