//! The four forms of a request target.

use http1::{RequestError, RequestHead, Target, TargetForm};

use crate::{lines, strict};

fn split(method: &str, target: &str) -> (TargetForm, Option<String>, String) {
    let head = strict(format!("{method} {target} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes()).unwrap();
    let Target { form, authority, path } = head.authority_and_path().unwrap();
    (form, authority.map(str::to_owned), path.into_owned())
}

const HTTP: TargetForm = TargetForm::Absolute { https: false };

#[test]
fn each_form_is_split_into_authority_and_path() {
    let owned = |text: &str| Some(text.to_owned());
    assert_eq!(split("GET", "/x?y=1"), (TargetForm::Origin, None, "/x?y=1".to_owned()));
    assert_eq!(split("GET", "//x"), (TargetForm::Origin, None, "//x".to_owned()));
    assert_eq!(split("OPTIONS", "*"), (TargetForm::Asterisk, None, "*".to_owned()));
    assert_eq!(split("CONNECT", "b.test:443"), (TargetForm::Authority, owned("b.test:443"), String::new()));
    assert_eq!(split("GET", "http://b.test/x?y=1"), (HTTP, owned("b.test"), "/x?y=1".to_owned()));
    assert_eq!(split("GET", "HTTP://b.test:80/"), (HTTP, owned("b.test:80"), "/".to_owned()));
    assert_eq!(split("GET", "http://[::1]:80/x"), (HTTP, owned("[::1]:80"), "/x".to_owned()));
    assert_eq!(split("GET", "HttpS://b.test/x").0, TargetForm::Absolute { https: true });
}

#[test]
fn an_absolute_form_without_a_path_has_the_path_slash() {
    assert_eq!(split("GET", "http://b.test").2, "/");
    assert_eq!(split("GET", "http://b.test?q=/x").2, "/?q=/x");
    assert_eq!(split("OPTIONS", "http://b.test").2, "/");
}

#[test]
fn the_target_is_kept_as_received() {
    let target = "/a/./b/../c//d%2fe%7e";
    assert_eq!(split("GET", target).2, target);
    let head = strict(b"GET http://b.test HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    assert_eq!(head.target(), "http://b.test");
}

#[test]
fn in_origin_form_the_authority_of_the_target_has_replaced_host() {
    let mut head = strict(b"GET http://other.test?y=1 HTTP/1.1\r\nx: 1\r\nhost: a.test\r\n\r\n").unwrap();
    head.to_origin_form(false).unwrap();
    assert_eq!(head.target(), "/?y=1");
    assert_eq!(lines(&head.fields), vec![("host", b"other.test".as_slice()), ("x", b"1".as_slice())]);
}

#[test]
fn the_other_forms_stay_as_they_are() {
    for line in ["GET /x", "OPTIONS *", "CONNECT b.test:443"] {
        let mut head = strict(format!("{line} HTTP/1.1\r\nhost: a.test\r\n\r\n").as_bytes()).unwrap();
        head.to_origin_form(false).unwrap();
        assert_eq!(format!("{} {}", head.method(), head.target()), line);
        assert_eq!(head.fields.get("host"), Some(b"a.test".as_slice()));
    }
}

#[test]
fn https_on_a_plain_connection_is_forbidden_and_on_tls_is_not() {
    let mut head = strict(b"GET https://b.test/x HTTP/1.1\r\nhost: a.test\r\n\r\n").unwrap();
    let refused = head.to_origin_form(false).unwrap_err();
    assert_eq!((refused, refused.status()), (RequestError::HttpsOnPlaintext, 403));
    head.to_origin_form(true).unwrap();
    assert_eq!(head.target(), "/x");
}

#[test]
fn a_head_made_by_hand_with_a_bad_target_is_refused() {
    let mut head = RequestHead::default();
    head.set_method("GET");
    head.set_target("foo");
    assert_eq!(head.authority_and_path(), Err(RequestError::Target));
    assert_eq!(head.to_origin_form(false), Err(RequestError::Target));
}
