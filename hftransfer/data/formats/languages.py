"""Whether text is plausible in a language: the letters and signs that it has, and where they stand."""

from __future__ import annotations

import re

SIGNS = frozenset("‘’“”„‚–—…•€«»°§£¥©®™·¡¿´`½¼¾±×²³µ‹›†‰№¦\N{NO-BREAK SPACE}")
# letters beyond ASCII that texts of a language hold, by the encodings that such texts come in
RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
LETTERS: dict[str, tuple[str, ...]] = {
    "cp1252": (
        "àâæçéèêëîïôœùûüÿ", "äöüßéàè", "áéíñóúüºª", "ãáàâçéêíõóôúüºª", "àèéìíîòóùúºª", "æøåäöéêèôòóâüü", "åäöéüàšž",
        "éëïöüèêíóáâàçî", "àçéèíïóòúü",
    ),
    "cp1250": (
        "áčďéěíňóřšťúůýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîşţ", "áäčďéíľňóôšťúýž", "čćđšž", "äöüß",
    ),
    "iso8859_2": ("áčďéěíňóřšťúůýž", "ąćęłńóśźż", "áéíóöőúüű", "áäčďéíľňóôšťúýž", "čćđšž"),
    "cp1254": ("çğıöşüâîûi̇",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
    "cp1251": (RUSSIAN + "іїєґўђјљњћџѓќѕ",),
    "koi8_r": (RUSSIAN,),
    "iso8859_5": (RUSSIAN,),
    "cp866": (RUSSIAN,),
    "cp1253": ("αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ",),
    "cp1255": ("אבגדהוזחטיךכלםמןנסעףפץצקרשת",),
    "cp1256": ("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژگ،؛؟",),
    "mac_roman": ("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúü"),
    "cp850": ("àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúü"),
}  # fmt: skip
OLD = ("iso8859_5", "cp866", "mac_roman", "cp850")  # read so where the others make no sense
LATIN = ("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257", "mac_roman", "cp850")
KANA, HANGUL = re.compile("[ぁ-ヿ]"), re.compile("[가-힣]")
SEVERAL_BYTES = ("cp932", "euc_jp", "euc_kr", "gb18030", "big5")
# of languages whose texts hardly ever do without: letters of which one stands among so many others
CORE = {"č": "šžřěť", "ć": "šžđłąęż", "ę": "łąż", "ń": "łąęż"}
ENOUGH = 6


def is_mostly_small(text: str) -> bool:
    """Tell whether most letters beyond ASCII are no capitals."""
    letters = [sign for sign in text if sign > "\x7f" and sign.isalpha()]
    return sum(sign == sign.lower() for sign in letters) >= len(letters) / 2


def is_plausible(text: str, alphabets: tuple[str, ...], latin: bool) -> bool:
    """Tell whether text beyond ASCII holds letters of one language, where letters stand, and usual signs."""
    beyond = {sign for sign in text if sign > "\x7f"}
    letters = {sign for sign in beyond if sign.isalpha()}
    if not beyond - letters <= SIGNS:
        return False
    folded = {part for sign in letters for part in sign.lower()}
    if not any(folded <= set(alphabet) for alphabet in alphabets):
        return False
    many = sum(sign in letters for sign in text) >= ENOUGH
    if many and any(sign in folded and not folded & set(core) for sign, core in CORE.items()):
        return False
    words = re.findall(r"[^\W\d_]+", text)
    beside = [word for word in words if not word.isascii()]
    if not latin and 4 * len(beside) < len(words):
        return False  # single letters of another script among words in ASCII
    for word in beside:
        if re.search(r"[^\W\d_]", word[:-1]) and not (word.islower() or word.isupper() or word[1:].islower()):
            return False  # capitals inside a word
        ascii_too = any(sign < "\x80" for sign in word)
        if latin and len(word) > 3 and not ascii_too:
            return False  # a whole word of accents
        if not latin and ascii_too:
            return False  # two scripts in one word
    return not re.search(r"[^\W\d_][‚„¡¿©®°§£¥½¼¾±²³µ†‰¦´][^\W\d_]", text)


def is_common(text: str, encoding: str) -> bool:
    """Tell whether Chinese, Japanese or Korean text holds the signs that texts in it mostly hold."""
    beyond = [sign for sign in text if sign > "\x7f"]
    kana, hangul = len(KANA.findall(text)), len(HANGUL.findall(text))
    if any("\uff61" <= sign <= "\uff9f" for sign in beyond):  # half of a sign
        return False
    if encoding in ("cp932", "euc_jp"):
        return 5 * kana > len(beyond)
    if encoding == "euc_kr":
        return hangul > 0.9 * sum(sign.isalpha() for sign in beyond)
    if kana or hangul:
        return False
    if encoding == "gb18030":
        signs = [sign.encode("gb2312") for sign in beyond if _fits(sign, "gb2312")]
        late = sum(sign[0] > 0xC8 for sign in signs)  # where Korean has no letters
        return len(signs) > 0.95 * len(beyond) and 20 * late > len(signs)
    pairs = [sign.encode("big5") for sign in beyond]
    low = sum(pair[-1] < 0x80 for pair in pairs)  # where others have no second byte
    return sum(0xA1 <= pair[0] <= 0xC6 for pair in pairs) > 0.9 * len(pairs) and 10 * low > len(pairs)


def _fits(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
