"""Currency signs and codes as they stand beside prices, and how many decimals a currency has (ISO 4217)."""

from __future__ import annotations

_WHOLE = "BIF CLP DJF GNF HUF IDR ISK JPY KMF KRW PYG RWF TWD UGX VND VUV XAF XOF XPF"
ZERO_DECIMALS = frozenset(_WHOLE.split())
"""Currencies whose prices are written without decimals (ISO 4217's, and those whose small unit is out of use)."""

_NAMES = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP
CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR
ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT
MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD
SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND
VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL
"""
_CODES = frozenset(_NAMES.split())
_LOWER_CASE = frozenset(("EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "SEK", "NOK", "DKK", "PLN"))
_WORDS = {"Ft": "HUF"}  # ft are feet
_DOLLARS = "USD CAD AUD NZD SGD HKD TWD MXN ARS CLP COP UYU BSD BBD BZD FJD JMD LRD NAD TTD XCD"

_SIGNS = {
    "€": "EUR", "£": "GBP", "₹": "INR", "₽": "RUB", "₩": "KRW", "₫": "VND", "₺": "TRY", "₪": "ILS", "₴": "UAH",
    "₦": "NGN", "₱": "PHP", "฿": "THB", "₡": "CRC", "₲": "PYG", "₸": "KZT", "₾": "GEL", "₼": "AZN", "₵": "GHS",
    "r$": "BRL", "us$": "USD", "$us": "USD", "au$": "AUD", "a$": "AUD", "c$": "CAD", "ca$": "CAD", "nz$": "NZD",
    "hk$": "HKD", "nt$": "TWD", "s$": "SGD", "mx$": "MXN", "cn¥": "CNY", "rmb": "CNY", "元": "CNY", "円": "JPY",
    "원": "KRW", "zł": "PLN", "zl": "PLN", "kč": "CZK", "kc": "CZK", "лв": "BGN", "лв.": "BGN",
    "lei": "RON", "руб": "RUB", "руб.": "RUB", "р.": "RUB", "грн": "UAH", "грн.": "UAH", "tl": "TRY", "rm": "MYR",
    "rp": "IDR", "rp.": "IDR", "rs": "INR", "rs.": "INR", "fr.": "CHF", "sfr.": "CHF", "sfr": "CHF", "din.": "RSD",
    "euro": "EUR", "euros": "EUR", "dollars": "USD", "usd$": "USD", "د.إ": "AED", "ر.س": "SAR", "ج.م": "EGP",
    "﷼": "IRR", "₭": "LAK", "₮": "MNT",
}  # fmt: skip

SHARED = {
    "$": frozenset(_DOLLARS.split()),
    "¥": frozenset(("JPY", "CNY")),
    "kr": frozenset(("SEK", "NOK", "DKK", "ISK")),
}
"""Signs that several currencies share, and which: a sign stays as it is unless one of them stands in the column too."""


def currency(unit: str) -> str | None:
    """The ISO code of a currency sign, word or code; a shared sign ("$", "kr") as it is; None for any other unit."""
    small = unit.casefold().removesuffix(".")
    if unit in _CODES or unit.upper() in _LOWER_CASE:
        return unit.upper()
    return small if small in SHARED else _WORDS.get(unit) or _SIGNS.get(unit.casefold())
