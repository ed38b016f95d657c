"""Certificates and keys for tests, made in a moment."""

import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """A CA that issues certificates into a folder."""

    def __init__(self, folder, name="ca"):
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, digital_signature=False,
                              content_commitment=False, key_encipherment=False,
                              data_encipherment=False, key_agreement=False, encipher_only=False,
                              decipher_only=False)
        self.certificate = self._begun(self.name, self.key, NOW + 365 * DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
            usage, critical=True).sign(self.key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(pem(self.certificate))

    def issue(self, name, until=None, key=None):
        """The files of a certificate for 127.0.0.1 and of its key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")),
                                             x509.DNSName("localhost")])
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH,
                                      ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = self._begun(subject, key, until or NOW + 30 * DAY).add_extension(
            names, critical=False).add_extension(uses, critical=False).sign(
            self.key, hashes.SHA256())
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        cert_file.write_bytes(pem(certificate))
        key_file.write_bytes(key_pem(key))
        key_file.chmod(0o600)
        return cert_file, key_file

    def _begun(self, subject, key, until):
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(
            key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(
            NOW - 365 * DAY).not_valid_after(until).add_extension(
            own, critical=False).add_extension(issuer, critical=False)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key, passphrase=None):
    protection = serialization.NoEncryption() if passphrase is None else \
        serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             protection)
