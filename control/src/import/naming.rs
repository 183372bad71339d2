//! Names that App Mesh took and Weir does not.
//!
//! Owns the one rule by which a name is changed: what a name may not have becomes `-`. It must never make two names
//! one: who asks looks whether the new one is taken. Next: `translate.rs`.

use gateway_config::rules::Rule;

/// The name itself where it will do.
pub(super) fn fit(name: &str) -> String {
    let will_do = |c: char| Rule::Name.check(c.encode_utf8(&mut [0; 4])).is_ok();
    name.chars().map(|c| if will_do(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn only_what_a_name_may_not_have_is_changed() {
        assert_eq!(fit("the-shop_route.1:x"), "the-shop_route.1:x");
        assert_eq!(fit("all of it/50%#\u{e9}"), "all-of-it-50---");
    }
}
