"""E-mail, by SMTP: smtp:// with STARTTLS, smtps:// with TLS from the start."""

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from urllib.parse import unquote, urlsplit

from pytest_tenantproof.config.notify import ROUTES, SMTP_VARIABLE, Route
from pytest_tenantproof.errors import ConfigError, NotifyError
from pytest_tenantproof.notify.alert import Alert, plain, wanted
from pytest_tenantproof.notify.http import LOOPBACK

__all__ = ["MailNotifier", "mail"]


@dataclass(frozen=True, slots=True)
class MailNotifier:
    """Sends one message to all recipients. Nothing leaves this machine without TLS."""

    url: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]
    timeout: float = 10.0
    routes: tuple[Route, ...] = ROUTES
    name: str = "e-mail"

    def __post_init__(self) -> None:
        if not _usable(self.url):
            raise ConfigError(
                f"{SMTP_VARIABLE} is not understood.",
                remedy="write smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465.",
            )
        if not (self.sender and self.recipients):
            raise ConfigError(
                "[tenantproof.notify] lacks email_from or email_to.", remedy="set both, or unset the SMTP URL."
            )

    def wants(self, alert: Alert) -> bool:
        return wanted(alert, self.routes)

    def send(self, alert: Alert) -> None:
        try:
            message = mail(alert, self.sender, self.recipients)
            with self._session() as session:
                refused = session.send_message(message, self.sender, list(self.recipients))
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise self._failed(error) from None
        if refused:
            raise NotifyError(
                f"the mail server refused {len(refused)} of {len(self.recipients)} recipients.",
                remedy="correct email_to in [tenantproof.notify].",
                partial=True,
            )

    def _session(self) -> smtplib.SMTP:
        parts = urlsplit(self.url)
        host, context = parts.hostname or "", ssl.create_default_context()
        if parts.scheme == "smtps":
            session: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=self.timeout, context=context)
        else:
            session = smtplib.SMTP(host, parts.port or 587, timeout=self.timeout)
        try:
            if parts.scheme == "smtp" and host not in LOOPBACK:
                session.starttls(context=context)
            if parts.username:
                session.login(unquote(parts.username), unquote(parts.password or ""))
        except BaseException:
            session.close()
            raise
        return session

    def _failed(self, error: Exception) -> NotifyError:
        """Told by kind and code: servers repeat addresses and credentials in their texts."""
        code = getattr(error, "smtp_code", "")
        if isinstance(error, smtplib.SMTPAuthenticationError):
            remedy = f"correct user and password in {SMTP_VARIABLE}."
        elif isinstance(error, ssl.SSLError | smtplib.SMTPNotSupportedError):
            remedy = "the server must offer STARTTLS (smtp://) or TLS (smtps://) with a valid certificate."
        else:
            remedy = f"check host and port in {SMTP_VARIABLE} and that the server accepts the sender."
        what = f"{type(error).__name__} {code}".strip()
        text = f"the mail server did not take the alert: {what}."
        return NotifyError(text, remedy=remedy, transient=_passing(error))


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _passing(error: Exception) -> bool:
    """Whether trying again may help: 4xx replies (RFC 5321, 4.2.1), and connections that failed or broke."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(400 <= code < 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return True
    return not isinstance(error, smtplib.SMTPException | ssl.SSLError | ValueError)


def mail(alert: Alert, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """Plain text. Line breaks in a title cannot forge a header."""
    message = EmailMessage(policy=SMTP)
    message["Subject"] = " ".join(plain(f"[tenantproof] {alert.level.upper()}: {alert.title}").split())[:200]
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="tenantproof.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(alert.lines()) + "\n")
    return message
